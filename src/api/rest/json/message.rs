//! Messages of protocol buffers → JSON with their own field names, fields that are not set included, as TensorFlow Serving
//! prints them: integers of 64 bits are strings, as the mapping of protocol buffers to JSON has it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};

use super::print::{write_float, write_string};

/// Writes `message`; entries of maps in the order of their keys.
pub(in crate::api::rest) fn write_message(message: &DynamicMessage, out: &mut Vec<u8>) {
    let descriptor = message.descriptor();
    // Wrapped values stand bare.
    if let (true, Some(value)) = (descriptor.full_name().starts_with("google.protobuf."), descriptor.get_field(1)) {
        return write_value(&message.get_field(&value), &value.kind(), out);
    }
    out.push(b'{');
    let mut first = true;
    for field in descriptor.fields() {
        let only_if_set =
            field.containing_oneof().is_some() || (matches!(field.kind(), Kind::Message(_)) && !field.is_list());
        if only_if_set && !field.is_map() && !message.has_field(&field) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(field.name(), out);
        out.push(b':');
        write_value(&message.get_field(&field), &field.kind(), out);
    }
    out.push(b'}');
}

fn write_value(value: &Value, kind: &Kind, out: &mut Vec<u8>) {
    match value {
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::I32(value) => out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes()),
        Value::U32(value) => out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes()),
        Value::I64(value) => write_string(itoa::Buffer::new().format(*value), out),
        Value::U64(value) => write_string(itoa::Buffer::new().format(*value), out),
        Value::F32(value) => write_float(*value, out),
        Value::F64(value) => write_float(*value, out),
        Value::String(value) => write_string(value, out),
        Value::Bytes(value) => write_string(&BASE64_STANDARD.encode(value), out),
        Value::EnumNumber(number) => match kind.as_enum().and_then(|e| e.get_value(*number)) {
            Some(value) => write_string(value.name(), out),
            None => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        },
        Value::Message(message) => write_message(message, out),
        Value::List(values) => {
            out.push(b'[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(value, kind, out);
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            let kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (text(key), value)).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            out.push(b'{');
            for (i, (key, value)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write_value(value, kind.as_ref().unwrap_or(&Kind::Bytes), out);
            }
            out.push(b'}');
        }
    }
}

/// Keys are strings, whatever their type.
fn text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
