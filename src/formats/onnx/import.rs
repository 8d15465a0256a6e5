//! A model file → a graph.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;

use super::limits::MAX_FILE_BYTES;
use super::nodes::{Context, FlatNode, GraphBuilder};
use super::opset::{self, Versions};
use super::proto::{GraphProto, ModelProto};
use super::weights::Weights;
use super::{functions, order, scan, signature, sparse};
use crate::engine::ir::Graph;
use crate::error::{Code, Error, Result};
use crate::tensor::Spec;

/// How to import.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    /// Refuse external data whose links lead out of the model's folder.
    pub strict_paths: bool,
}

/// The graph of the model file at `path`; external data is read from beside it.
///
/// # Errors
/// `UNIMPLEMENTED` listing every operator that does not exist here, `INVALID_ARGUMENT` naming what is wrong in the file,
/// and what the system reports on reading.
pub fn import(path: &Path) -> Result<Graph> {
    import_with(path, ImportOptions::default())
}

/// As [`import`], under `options`.
///
/// # Errors
/// As [`import`].
pub fn import_with(path: &Path, options: ImportOptions) -> Result<Graph> {
    let folder = path.parent().unwrap_or(Path::new(""));
    read(path).and_then(|bytes| load(bytes, folder, options)).map_err(|e| e.at(path.display()))
}

/// The graph of a model in memory; external data is read from `folder`.
///
/// # Errors
/// As [`import`].
pub fn import_bytes(bytes: Bytes, folder: &Path) -> Result<Graph> {
    load(bytes, folder, ImportOptions::default())
}

fn read(path: &Path) -> Result<Bytes> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE_BYTES {
        return Err(Error::resource_exhausted(format!("{size} bytes, a model file has at most {MAX_FILE_BYTES}")));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn load(bytes: Bytes, folder: &Path, options: ImportOptions) -> Result<Graph> {
    scan::check(&bytes)?;
    let model = ModelProto::decode(bytes)
        .map_err(|e| Error::invalid_argument("the file is not an ONNX model").with_source(e))?;
    let mut proto = model.graph.ok_or_else(|| Error::invalid_argument("the model has no graph"))?;
    let nodes =
        functions::flatten(&model.functions, std::mem::take(&mut proto.node), &Versions::new(&model.opset_import))?;
    let outputs: Vec<&str> = proto.output.iter().map(|o| o.name.as_str()).collect();
    if let Some(twice) = repeated(&outputs) {
        return Err(Error::invalid_argument(format!("output {twice:?} is listed twice")));
    }
    let nodes = order::sort(nodes, &outputs)?;
    opset::check(&nodes)?;

    let read: HashSet<&str> = nodes.iter().flat_map(FlatNode::reads).chain(outputs.iter().copied()).collect();
    let mut context = Context::new(Weights::new(folder, options.strict_paths));
    let mut builder = GraphBuilder::new(&mut context);
    let constants = builder.declare_constants(&proto, |name| read.contains(name))?;
    let inputs = add_inputs(&mut builder, &proto)?;
    for node in nodes {
        builder.add_node(node)?;
    }
    let graph = builder.finish(&constants, &outputs)?;
    context.into_result()?;
    let mut graph = graph.ok_or_else(|| Error::internal("a graph without a reason to be missing"))?;
    graph.signature.inputs = inputs;
    graph.signature.outputs = signature::outputs(&graph, &proto.output)?;
    Ok(graph)
}

/// Adds the inputs that are not constants: old files list those too.
fn add_inputs(builder: &mut GraphBuilder<'_>, proto: &GraphProto) -> Result<Vec<Spec>> {
    let dense = proto.initializer.iter().map(|t| t.name.as_str());
    let constants: HashSet<&str> = dense.chain(proto.sparse_initializer.iter().map(sparse::name)).collect();
    let mut specs = Vec::new();
    for info in proto.input.iter().filter(|i| !constants.contains(i.name.as_str())) {
        builder.add_input(&info.name)?;
        match signature::input(info) {
            Ok(spec) => specs.push(spec),
            Err(e) if e.code() == Code::Unimplemented => builder.note_unsupported(e.message().to_owned()),
            Err(e) => return Err(e.at(format_args!("input {:?}", info.name))),
        }
    }
    Ok(specs)
}

fn repeated<'a>(names: &[&'a str]) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.iter().copied().find(|name| !seen.insert(*name))
}
