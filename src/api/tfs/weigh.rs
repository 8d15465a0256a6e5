//! How much memory decoding a message takes, found by walking its bytes without making anything of them.

/// Bytes for a value in a list that doubles as it grows.
const VALUE: u64 = 16;
/// For a byte string's handle likewise.
const STRING: u64 = 80;
/// For a dimension of a shape.
const DIM: u64 = 80;
/// For a named tensor: its struct, its name and its place in a map.
const ENTRY: u64 = 1024;
/// For each byte of other methods' messages: an example may be empty, and a feature without values nearly so.
const OTHER: u64 = 64;

/// An upper bound for decoding `message`, the request of the method at `path`.
pub(in crate::api) fn weigh(path: &str, message: &[u8]) -> u64 {
    if !path.ends_with("/Predict") {
        return (message.len() as u64).saturating_mul(OTHER);
    }
    let mut total = 0u64;
    for field in Fields(message) {
        let more = match field {
            // inputs: map<string, TensorProto>
            Field { number: 2, bytes: Some(entry), .. } => Fields(entry)
                .map(|f| match f {
                    Field { number: 2, bytes: Some(tensor), .. } => tensor_weight(tensor),
                    other => other.bytes.map_or(0, |b| b.len() as u64 * 2),
                })
                .fold(ENTRY, u64::saturating_add),
            // model_spec, output_filter and unknown fields.
            other => STRING + other.bytes.map_or(0, |b| b.len() as u64 * 2),
        };
        total = total.saturating_add(more);
    }
    total
}

fn tensor_weight(tensor: &[u8]) -> u64 {
    let weight = |field: Field<'_>| match (field.number, field.bytes) {
        // tensor_shape: each dimension takes two bytes at least.
        (2, Some(shape)) => (shape.len() as u64 / 2 + 1) * DIM,
        // tensor_content is borrowed.
        (4, Some(_)) => STRING,
        (8 | 14 | 15 | 18, Some(_)) => STRING,
        // Packed values: those of fixed size, and varints, one value a byte at worst.
        (5 | 9, Some(packed)) => packed.len() as u64 * 2,
        (6 | 12, Some(packed)) => packed.len() as u64 * 2,
        (_, Some(packed)) => packed.len() as u64 * VALUE,
        (_, None) => VALUE,
    };
    Fields(tensor).map(weight).fold(0, u64::saturating_add)
}

/// One field of a message.
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// Its contents, if it has a length.
    pub(super) bytes: Option<&'a [u8]>,
}

/// Walks a message's fields; stops where it is malformed, as decoding will. Decoding passes over groups: here what is in one
/// counts as if it stood outside, which can only weigh more.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, count: usize) -> Option<&'a [u8]> {
        let (skipped, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(skipped)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let key = self.varint()?;
        let bytes = match key & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => {
                self.skip(8)?;
                None
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Some(self.skip(length)?)
            }
            5 => {
                self.skip(4)?;
                None
            }
            // A group's beginning and its end.
            3 | 4 => None,
            _ => return None,
        };
        Some(Field { number: key >> 3, bytes })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::proto::{serving::PredictRequest, tensorflow::TensorProto};
    use super::*;

    #[test]
    fn contents_are_cheap_and_lists_are_dear() {
        let request = |tensor: TensorProto| {
            let inputs = [("x".to_owned(), tensor)].into();
            PredictRequest { inputs, ..PredictRequest::default() }.encode_to_vec()
        };
        let content = TensorProto { tensor_content: vec![0; 100_000].into(), ..TensorProto::default() };
        let listed = TensorProto { int_val: vec![1; 100_000], ..TensorProto::default() };
        assert!(weigh("/s/Predict", &request(content)) < 4096);
        assert!(weigh("/s/Predict", &request(listed)) >= 400_000);
    }

    #[test]
    fn what_follows_a_group_is_weighed_too() {
        // Field 15, which no message has: decoding passes over it.
        const GROUP: [u8; 2] = [15 << 3 | 3, 15 << 3 | 4];
        let listed = TensorProto { int_val: vec![1; 1000], ..TensorProto::default() };
        let inputs = [("x".to_owned(), listed.clone())].into();
        let request = PredictRequest { inputs, ..PredictRequest::default() };
        let mut message = GROUP.to_vec();
        message.extend(request.encode_to_vec());
        assert_eq!(PredictRequest::decode(message.as_slice()).expect("groups are legal"), request);
        assert!(weigh("/s/Predict", &message) >= 4000);
        let mut tensor = GROUP.to_vec();
        tensor.extend(listed.encode_to_vec());
        assert!(tensor_weight(&tensor) >= 4000);
    }
}
