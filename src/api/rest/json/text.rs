//! JSON text under a cursor: its grammar, not what its values mean.
//!
//! `NaN`, `Infinity` and `Inf`, with or without a sign, count as numbers, and strings may hold bytes that are not UTF-8: both
//! as in TensorFlow Serving, whose texts the errors have.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// Bytes of a value that errors show.
const EXCERPT_MAX: usize = 64;

/// A place in JSON text.
#[derive(Clone, Debug)]
pub(in crate::api::rest) struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn syntax(what: &str, offset: usize) -> Error {
    Error::invalid_argument(format!("JSON Parse error: {what} at offset: {offset}"))
}

impl<'a> Text<'a> {
    /// The beginning of `bytes`.
    pub(in crate::api::rest) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte that is no white space; the cursor stands before it afterwards.
    #[inline]
    pub(in crate::api::rest) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Passes `byte` if it is the next one.
    #[inline]
    pub(in crate::api::rest) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Where the next value begins.
    pub(super) fn start(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// The text from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    /// That nothing follows.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the offset of what does.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(syntax("The document root must not be followed by other values.", self.at)),
        }
    }

    /// Passes the value that begins here, checking all of its grammar.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the offset of a mistake, or when lists and objects are nested deeper than `depth_max`.
    pub(in crate::api::rest) fn skip(&mut self, depth_max: usize) -> Result<()> {
        // What closes each list and object that is open here.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek() {
                Some(opening @ (b'[' | b'{')) => {
                    if open.len() >= depth_max {
                        return Err(Error::invalid_argument(format!(
                            "JSON nested deeper than {depth_max} at offset: {} (rest_api_json_depth)",
                            self.at
                        )));
                    }
                    self.at += 1;
                    let closing = if opening == b'[' { b']' } else { b'}' };
                    open.push(closing);
                    if self.peek() != Some(closing) {
                        if closing == b'}' {
                            self.pass_name()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.parts(|_| {})?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                Some(_) => self.number()?,
                None => return Err(syntax("Invalid value.", self.at)),
            }
            // A value has ended.
            loop {
                let Some(closing) = open.last().copied() else { return Ok(()) };
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if closing == b'}' {
                            self.pass_name()?;
                        }
                        break;
                    }
                    Some(byte) if byte == closing => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(self.no_comma(closing)),
                }
            }
        }
    }

    fn no_comma(&self, closing: u8) -> Error {
        match closing {
            b'}' => syntax("Missing a comma or } after an object member.", self.at),
            _ => syntax("Missing a comma or ] after an array element.", self.at),
        }
    }

    /// Calls `member` with each name of the object that begins here and the cursor at its value, which `member` must pass.
    ///
    /// # Errors
    /// Those of `member`, and `INVALID_ARGUMENT` with the offset of a mistake.
    pub(in crate::api::rest) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.take(b'{');
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(syntax("Missing a name for object member.", self.at));
            }
            let name = self.string()?;
            self.colon()?;
            self.peek();
            member(self, &name)?;
            if !self.take(b',') {
                break;
            }
        }
        if self.take(b'}') { Ok(()) } else { Err(self.no_comma(b'}')) }
    }

    /// Calls `element` for each element of the list that begins here, with the cursor at it, which `element` must pass.
    ///
    /// # Errors
    /// As [`Text::object`].
    pub(in crate::api::rest) fn list(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.take(b'[');
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.peek();
            element(self)?;
            if !self.take(b',') {
                break;
            }
        }
        if self.take(b']') { Ok(()) } else { Err(self.no_comma(b']')) }
    }

    fn pass_name(&mut self) -> Result<()> {
        if self.peek() != Some(b'"') {
            return Err(syntax("Missing a name for object member.", self.at));
        }
        self.parts(|_| {})?;
        self.colon()
    }

    fn colon(&mut self) -> Result<()> {
        if self.take(b':') { Ok(()) } else { Err(syntax("Missing a colon after a name of object member.", self.at)) }
    }

    /// The string that begins here, borrowed if it has no escapes.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the offset of a mistake.
    pub(in crate::api::rest) fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        let content = self.at + 1;
        let plain = self.bytes[content..].iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
        if let Some(length) = plain.filter(|length| self.bytes[content + length] == b'"') {
            self.at = content + length + 1;
            return Ok(Cow::Borrowed(&self.bytes[content..content + length]));
        }
        let mut whole = Vec::new();
        self.parts(|part| whole.extend_from_slice(part))?;
        Ok(Cow::Owned(whole))
    }

    /// Passes the string that begins here, handing what it stands for to `sink` bit by bit.
    fn parts(&mut self, mut sink: impl FnMut(&[u8])) -> Result<()> {
        let opening = self.at;
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(length) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)) else {
                return Err(syntax("Missing a closing quotation mark in string.", opening));
            };
            sink(&rest[..length]);
            self.at += length;
            match rest[length] {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape(&mut sink)?,
                _ => return Err(syntax("Invalid encoding in string.", self.at)),
            }
        }
    }

    fn escape(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<()> {
        let start = self.at;
        let escaped = self.bytes.get(start + 1).copied();
        self.at += 2;
        let byte = match escaped {
            Some(plain @ (b'"' | b'\\' | b'/')) => plain,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.unicode(start)?;
                sink(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(syntax("Invalid escape character in string.", start)),
        };
        sink(&[byte]);
        Ok(())
    }

    /// The character of one `\uXXXX`, or of two that are a surrogate pair. The cursor stands behind the first `u`.
    fn unicode(&mut self, start: usize) -> Result<char> {
        let broken = || syntax("The surrogate pair in string is invalid.", start);
        let first = self.hex(start)?;
        let code = match first {
            0xd800..0xdc00 => {
                if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(broken());
                }
                self.at += 2;
                let second = self.hex(start)?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(broken());
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(broken)
    }

    fn hex(&mut self, start: usize) -> Result<u32> {
        let wrong = || syntax("Incorrect hex digit after \\u escape in string.", start);
        let digits = self.bytes.get(self.at..self.at + 4).ok_or_else(wrong)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or_else(wrong)?;
            Ok(code << 4 | digit)
        })
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(syntax("Invalid value.", self.at));
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at > start
    }

    fn number(&mut self) -> Result<()> {
        let start = self.at;
        if self.bytes.get(start) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => drop(self.digits()),
            Some(b'N') => return self.word("NaN"),
            Some(b'I') => return self.word("Infinity").or_else(|_| self.word("Inf")),
            _ => return Err(syntax("Invalid value.", start)),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if !self.digits() {
                return Err(syntax("Miss fraction part in number.", self.at));
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            if !self.digits() {
                return Err(syntax("Miss exponent in number.", self.at));
            }
        }
        Ok(())
    }

    /// The word or number that begins here, of text whose grammar was checked: up to white space or punctuation.
    #[inline]
    pub(in crate::api::rest) fn token(&mut self) -> &'a str {
        let rest = &self.bytes[self.at..];
        let ends = |b: &u8| matches!(b, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        self.at += length;
        std::str::from_utf8(&rest[..length]).unwrap_or_default()
    }

    /// Whether an object that stands for bytes begins here: `{"b64": "…"}` and nothing else in it.
    pub(in crate::api::rest) fn is_base64(&mut self) -> bool {
        if self.peek() != Some(b'{') {
            return false;
        }
        let mut ahead = self.clone();
        ahead.take(b'{');
        ahead.peek() == Some(b'"')
            && ahead.string().is_ok_and(|name| *name == *b"b64")
            && ahead.take(b':')
            && ahead.peek() == Some(b'"')
            && ahead.parts(|_| {}).is_ok()
            && ahead.take(b'}')
    }

    /// The name of the kind of value that begins here, as errors spell it.
    pub(in crate::api::rest) fn kind(&mut self) -> &'static str {
        match self.peek() {
            Some(b'{') => "Object",
            Some(b'[') => "Array",
            Some(b'"') => "String",
            Some(b't') => "True",
            Some(b'f') => "False",
            Some(b'n') => "Null",
            _ => "Number",
        }
    }

    /// The value that begins here as errors show it: as it is written, cut where it is long.
    pub(in crate::api::rest) fn excerpt(&mut self) -> String {
        let start = self.start();
        let mut ahead = self.clone();
        // Of what cannot be passed the rest is shown.
        if ahead.skip(usize::MAX).is_err() {
            ahead.at = ahead.bytes.len();
        }
        let value = ahead.since(start);
        let shown = String::from_utf8_lossy(&value[..value.len().min(EXCERPT_MAX)]);
        if value.len() > EXCERPT_MAX { format!("{shown}…") } else { shown.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> std::result::Result<(), String> {
        let mut cursor = Text::new(text.as_bytes());
        cursor.skip(4).and_then(|()| cursor.end()).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn grammar_is_that_of_json_and_numbers_that_are_none() {
        for text in [
            "0",
            "-0.5e+3",
            "[ ]",
            "{ }",
            "[[], {\"a\": [1, true, null]}]",
            r#""\u00e9\ud83d\ude00\n""#,
            "NaN",
            "[-Infinity, Infinity, Inf, -NaN]",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, wrong) in [
            ("", "Invalid value. at offset: 0"),
            ("[1,]", "Invalid value. at offset: 3"),
            ("[1 2]", "Missing a comma or ] after an array element. at offset: 3"),
            ("[01]", "Missing a comma or ] after an array element. at offset: 2"),
            ("{\"a\" 1}", "Missing a colon after a name of object member. at offset: 5"),
            ("{\"a\":1,}", "Missing a name for object member. at offset: 7"),
            ("{\"a\":1", "Missing a comma or } after an object member. at offset: 6"),
            ("\"abc", "Missing a closing quotation mark in string. at offset: 0"),
            ("\"\\x\"", "Invalid escape character in string. at offset: 1"),
            ("\"\\ud800\"", "The surrogate pair in string is invalid. at offset: 1"),
            ("\"\\u00g0\"", "Incorrect hex digit after \\u escape in string. at offset: 1"),
            ("\"a\nb\"", "Invalid encoding in string. at offset: 2"),
            ("1.", "Miss fraction part in number. at offset: 2"),
            ("1e", "Miss exponent in number. at offset: 2"),
            ("{} x", "The document root must not be followed by other values. at offset: 3"),
            ("nul", "Invalid value. at offset: 0"),
        ] {
            assert_eq!(check(text), Err(format!("JSON Parse error: {wrong}")), "{text}");
        }
        assert!(check("[[[[1]]]]").is_ok());
        assert_eq!(check("[[[[[1]]]]]"), Err("JSON nested deeper than 4 at offset: 4 (rest_api_json_depth)".into()));
    }

    #[test]
    fn strings_are_what_their_escapes_say() {
        let read = |text: &'static str| Text::new(text.as_bytes()).string().map(Cow::into_owned).ok();
        assert_eq!(read(r#""plain""#), Some(b"plain".to_vec()));
        assert_eq!(read(r#""\"\\\/\b\f\n\r\t""#), Some(b"\"\\/\x08\x0c\n\r\t".to_vec()));
        assert_eq!(read(r#""a\u00e9\ud83d\ude00z""#), Some("aé😀z".as_bytes().to_vec()));
        assert_eq!(read(r#""a\u0000""#), Some(vec![b'a', 0]));
    }

    proptest::proptest! {
        /// What another reader of JSON takes, this one takes.
        #[test]
        fn written_values_are_read(text in ".{0,20}", number: f64, flag: bool) {
            let value = serde_json::json!({"a": [text, number, {"b": flag}], "": null});
            proptest::prop_assert_eq!(check(&value.to_string()), Ok(()));
            proptest::prop_assert_eq!(check(&serde_json::to_string_pretty(&value).expect("plain values")), Ok(()));
        }

        /// Nothing that is no JSON makes it panic or wait.
        #[test]
        fn any_bytes_are_passed_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            drop(Text::new(&bytes).skip(8));
            Text::new(&bytes).excerpt();
            Text::new(&bytes).is_base64();
        }
    }
}
