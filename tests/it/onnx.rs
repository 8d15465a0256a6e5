//! ONNX files by hand, right ones and such as no exporter writes.

/// A field with a length.
pub(crate) fn field(number: u64, contents: &[u8]) -> Vec<u8> {
    let mut bytes = varint(number << 3 | 2);
    bytes.extend(varint(contents.len() as u64));
    bytes.extend_from_slice(contents);
    bytes
}

/// A field that is a number.
pub(crate) fn number(number: u64, value: i64) -> Vec<u8> {
    let mut bytes = varint(number << 3);
    bytes.extend(varint(value as u64));
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A node of a graph, called as its operator; `more` are its attributes.
pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str], more: &[u8]) -> Vec<u8> {
    let texts = |of: u64, names: &[&str]| names.iter().flat_map(|name| field(of, name.as_bytes())).collect::<Vec<u8>>();
    let name = format!("my {operator}");
    let (name, kind) = (field(3, name.as_bytes()), field(4, operator.as_bytes()));
    field(1, &[texts(1, inputs), texts(2, outputs), name, kind, more.to_vec()].concat())
}

/// An attribute that is a graph.
pub(crate) fn graph_attribute(name: &str, graph: &[u8]) -> Vec<u8> {
    field(5, &[field(1, name.as_bytes()), field(6, graph), number(20, 5)].concat())
}

/// A constant of a graph, of type `dtype`; `more` is where its contents are.
pub(crate) fn constant(name: &str, dtype: i64, dims: &[i64], more: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
    field(5, &[dims, number(2, dtype), field(8, name.as_bytes()), more.to_vec()].concat())
}

/// Contents of a constant in its file.
pub(crate) fn raw(bytes: &[u8]) -> Vec<u8> {
    field(9, bytes)
}

/// Contents of a constant at the beginning of another file.
pub(crate) fn external(location: &str) -> Vec<u8> {
    let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
    [field(13, &entry), number(14, 1)].concat()
}

/// An input of floats.
pub(crate) fn input(name: &str, dims: &[i64]) -> Vec<u8> {
    info(11, name, dims)
}

/// An output of floats.
pub(crate) fn output(name: &str, dims: &[i64]) -> Vec<u8> {
    info(12, name, dims)
}

fn info(of: u64, name: &str, dims: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| field(1, &number(1, *dim))).collect();
    let tensor = [number(1, 1), field(2, &dims)].concat();
    field(of, &[field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat())
}

/// A model with this graph.
pub(crate) fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    [number(1, 8), field(7, &graph.concat()), field(8, &number(2, 17))].concat()
}
