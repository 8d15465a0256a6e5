//! Named tensors → the reply to a predict request.

use super::json::{Print, printer, write_string};
use crate::api::budget::Ledger;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// In which form inputs came, and outputs go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `instances` and `predictions`: an element for each row.
    Row,
    /// `inputs` and `outputs`: a tensor each.
    Column,
}

/// The reply that holds `outputs` in the form in which the inputs came: a single output stands bare, several by their names.
/// What the text takes is taken from `ledger` first.
///
/// # Errors
/// `INVALID_ARGUMENT` where outputs have no rows, or not equally many, and rows are to be written; `UNIMPLEMENTED` for types
/// that JSON has no form for; `RESOURCE_EXHAUSTED` beyond the ledger.
pub fn write_json(format: Format, outputs: &[(String, Tensor)], ledger: &Ledger) -> Result<Vec<u8>> {
    let printers = outputs.iter().map(|(name, tensor)| Ok((name.as_str(), printer(name, tensor)?)));
    let printers = printers.collect::<Result<Vec<_>>>()?;
    let rows = match format {
        Format::Row => Some(common_rows(outputs)?),
        Format::Column => None,
    };
    let mut out = buffer(&printers, rows.unwrap_or(1), ledger)?;
    match rows {
        Some(rows) => {
            out.extend_from_slice(b"{\"predictions\":[");
            for row in 0..rows {
                if row > 0 {
                    out.push(b',');
                }
                one(&printers, &mut out, |printer, out| printer.row(row, out));
            }
            out.extend_from_slice(b"]}");
        }
        None => {
            out.extend_from_slice(b"{\"outputs\":");
            one(&printers, &mut out, |printer, out| printer.whole(out));
            out.push(b'}');
        }
    }
    Ok(out)
}

type Printers<'a> = [(&'a str, Box<dyn Print + 'a>)];

/// A buffer in which the text has room.
fn buffer(printers: &Printers<'_>, rows: usize, ledger: &Ledger) -> Result<Vec<u8>> {
    // A name may be written as six bytes for each of its own.
    let names: u64 = printers.iter().map(|(name, _)| name.len() as u64 * 6 + 8).sum();
    let values: u64 = printers.iter().map(|(_, printer)| printer.bytes_max()).fold(0, u64::saturating_add);
    let most = values.saturating_add(names.saturating_mul(rows as u64)).saturating_add(32);
    ledger.take(most)?;
    let most = usize::try_from(most).map_err(|_| Error::resource_exhausted("the reply has no room in memory"))?;
    Ok(Vec::with_capacity(most))
}

fn one(printers: &Printers<'_>, out: &mut Vec<u8>, print: impl Fn(&dyn Print, &mut Vec<u8>)) {
    if let [(_, only)] = printers {
        return print(&**only, out);
    }
    out.push(b'{');
    for (i, (name, printer)) in printers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        print(&**printer, out);
    }
    out.push(b'}');
}

/// The extent of axis 0, which all outputs share.
fn common_rows(outputs: &[(String, Tensor)]) -> Result<usize> {
    let mut common = None;
    for (name, tensor) in outputs {
        let rows = tensor.shape().first().copied();
        let rows =
            rows.ok_or_else(|| Error::invalid_argument(format!("Tensor name: {name} has no shape information ")))?;
        let expected = *common.get_or_insert(rows);
        if rows != expected {
            return Err(Error::invalid_argument(format!(
                "Tensor name: {name} has inconsistent batch size: {rows} expecting: {expected}"
            )));
        }
    }
    Ok(common.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::budget::Budget;
    use crate::error::Code;

    fn text(format: Format, outputs: &[(&str, &Tensor)]) -> Result<String> {
        let ledger = Ledger::open(&Budget::new(1 << 16));
        let outputs: Vec<_> = outputs.iter().map(|(name, t)| ((*name).to_owned(), (*t).clone())).collect();
        write_json(format, &outputs, &ledger).map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn rows_and_columns() {
        let y = Tensor::from_vec([2, 2], vec![1.0f32, 2.0, 3.0, 4.5]).expect("four");
        let z = Tensor::from_vec([2], vec![7i64, 8]).expect("two");
        assert_eq!(text(Format::Row, &[("y", &y)]).expect("rows"), r#"{"predictions":[[1.0,2.0],[3.0,4.5]]}"#);
        assert_eq!(text(Format::Column, &[("y", &y)]).expect("columns"), r#"{"outputs":[[1.0,2.0],[3.0,4.5]]}"#);
        assert_eq!(
            text(Format::Row, &[("y", &y), ("z\"", &z)]).expect("rows"),
            r#"{"predictions":[{"y":[1.0,2.0],"z\"":7},{"y":[3.0,4.5],"z\"":8}]}"#
        );
        assert_eq!(
            text(Format::Column, &[("y", &y), ("z", &z)]).expect("columns"),
            r#"{"outputs":{"y":[[1.0,2.0],[3.0,4.5]],"z":[7,8]}}"#
        );
        let none = Tensor::from_vec::<f32>([0, 2], vec![]).expect("none");
        assert_eq!(text(Format::Row, &[("y", &none)]).expect("no rows"), r#"{"predictions":[]}"#);
    }

    #[test]
    fn outputs_without_rows_need_the_other_form() {
        let scalar = Tensor::scalar(1.0f32);
        let refused = text(Format::Row, &[("y", &scalar)]).expect_err("no rows");
        assert_eq!(refused.message(), "Tensor name: y has no shape information ");
        assert_eq!(text(Format::Column, &[("y", &scalar)]).expect("a scalar"), r#"{"outputs":1.0}"#);
        let (two, three) = (Tensor::from_vec([2], vec![1i32; 2]), Tensor::from_vec([3], vec![1i32; 3]));
        let (two, three) = (two.expect("two"), three.expect("three"));
        let refused = text(Format::Row, &[("a", &two), ("b", &three)]).expect_err("not as many");
        assert_eq!(refused.message(), "Tensor name: b has inconsistent batch size: 3 expecting: 2");
    }

    #[test]
    fn what_is_empty_but_wide_is_bounded() {
        let wide = Tensor::from_vec::<f32>([1 << 40, 0], vec![]).expect("nothing");
        assert_eq!(text(Format::Column, &[("y", &wide)]).expect_err("terabytes").code(), Code::ResourceExhausted);
    }
}
