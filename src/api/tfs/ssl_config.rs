//! TensorFlow Serving's SSLConfig: PEM texts within a text file.

use std::fmt;

use super::config::parse_or;
use super::proto::serving::SslConfig;
use crate::error::{Error, Result};

const NAME: &str = "tensorflow.serving.SSLConfig";

/// A text in PEM, and where it stands. Never shown: it may be a key.
#[derive(Clone, PartialEq, Eq)]
pub struct PemText {
    /// The file and, where it is known, the line and the field.
    pub place: String,
    /// The text.
    pub text: String,
}

impl fmt::Debug for PemText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemText").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What TLS is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem {
    /// The server's certificate, then those that lead to its root.
    pub certificates: PemText,
    /// Its private key.
    pub key: PemText,
    /// Who signs the certificates of clients; `None`: they are not asked for one.
    pub client_ca: Option<PemText>,
    /// Clients without a certificate are sent away.
    pub clients_must: bool,
}

/// What the text file `file`, an SSLConfig, says. Errors never show what stands in it.
///
/// # Errors
/// `INVALID_ARGUMENT` for each mistake, with its line and what was expected.
pub fn pem_of_ssl_config(text: &str, file: &str) -> Result<Pem, Vec<Error>> {
    let config: SslConfig = parse_or(NAME, text, |line, _| {
        let expected =
            "expected server_key, server_cert, custom_ca (texts in quotes) and client_verify (true or false)";
        Error::invalid_argument(format!("{file}:{line}: Error parsing text-format {NAME}: {expected}"))
    })
    .map_err(|e| vec![e])?;
    let place = |field: &str| {
        let line = text.lines().position(|line| line.trim_start().starts_with(field));
        line.map_or(format!("{file}: {field}"), |line| format!("{file}:{}: {field}", line + 1))
    };
    let given = |field: &str, text: String| PemText { place: place(field), text };
    let mut wrong = Vec::new();
    for (field, text) in [("server_key", &config.server_key), ("server_cert", &config.server_cert)] {
        if text.is_empty() {
            wrong.push(Error::invalid_argument(format!("{file}: {field} is missing, expected a text in PEM")));
        }
    }
    if config.client_verify && config.custom_ca.is_empty() {
        let expected = "custom_ca beside it: who signs the certificates of clients";
        wrong.push(Error::invalid_argument(format!("{}, expected {expected}", place("client_verify"))));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(Pem {
        certificates: given("server_cert", config.server_cert),
        key: given("server_key", config.server_key),
        client_ca: config.client_verify.then(|| given("custom_ca", config.custom_ca)),
        clients_must: config.client_verify,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_taken_and_mistakes_show_nothing_of_them() {
        let text = "server_key: 'SECRET\\n'\n  'KEY'\nserver_cert: \"CERT\"\ncustom_ca: 'CA'\n";
        let pem = pem_of_ssl_config(text, "f").expect("right");
        assert_eq!((pem.key.text.as_str(), pem.key.place.as_str()), ("SECRET\nKEY", "f:1: server_key"));
        assert_eq!((pem.certificates.place.as_str(), pem.client_ca.is_some()), ("f:3: server_cert", false));
        assert!(!format!("{pem:?}").contains("SECRET"));
        let pem = pem_of_ssl_config(&format!("{text}client_verify: true"), "f").expect("right");
        assert_eq!(pem.client_ca.map(|ca| ca.text).as_deref(), Some("CA"));
        let mistakes = |text: &str| {
            let errors = pem_of_ssl_config(text, "f").expect_err(text);
            errors.iter().map(|e| e.message().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            mistakes("\nclient_verify: true"),
            [
                "f: server_key is missing, expected a text in PEM",
                "f: server_cert is missing, expected a text in PEM",
                "f:2: client_verify, expected custom_ca beside it: who signs the certificates of clients",
            ]
        );
        for broken in ["server_key: 'K'\nserver_crt: 'SECRET'", "server_key: 'K'\nserver_cert: SECRET 'x'"] {
            let told = mistakes(broken).concat();
            assert!(told.starts_with("f:2: Error parsing") && !told.contains("SECRET"), "{told}");
        }
    }
}
