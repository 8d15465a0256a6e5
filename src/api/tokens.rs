//! Bearer tokens: who may predict, and who may administer.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::{Choice, ConstantTimeEq as _};

use crate::error::{Error, Result};

/// Tokens of one kind at most, and bytes of one.
const TOKENS_MAX: usize = 1000;
const TOKEN_BYTES_MAX: usize = 4096;

/// Tokens that give the same right. They are never shown.
pub struct Tokens(Vec<Box<[u8]>>);

impl Tokens {
    /// Those of `text`, which is called `place`: one a line; empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the line of what is no token, or when there is none.
    pub fn read(text: &str, place: &str) -> Result<Self> {
        let mut tokens = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let token = line.trim();
            if token.is_empty() || token.starts_with('#') {
                continue;
            }
            let wrong = |expected: &str| Error::invalid_argument(format!("{place}:{}: expected {expected}", index + 1));
            if !token.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(wrong("a token of printable ASCII without spaces"));
            }
            if token.len() > TOKEN_BYTES_MAX {
                return Err(wrong(&format!("a token of at most {TOKEN_BYTES_MAX} bytes")));
            }
            if tokens.len() == TOKENS_MAX {
                return Err(wrong(&format!("at most {TOKENS_MAX} tokens")));
            }
            tokens.push(token.as_bytes().into());
        }
        if tokens.is_empty() {
            return Err(Error::invalid_argument(format!("{place}: no token, expected one a line")));
        }
        Ok(Self(tokens))
    }

    /// Whether `sent` is one of them, in a time that tells nothing of which and where they differ.
    fn hold(&self, sent: &[u8]) -> bool {
        self.0.iter().fold(Choice::from(0), |found, token| found | token.ct_eq(sent)).into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Have a model run.
    Predict,
    /// See which models there are, their states and signatures.
    Look,
}

/// Who has which right. Tokens may be exchanged while requests come.
#[derive(Debug, Default)]
pub struct Access {
    /// `None`: anybody may predict and look.
    pub predict: ArcSwapOption<Tokens>,
    /// `None`: no token lets anybody administer.
    pub admin: ArcSwapOption<Tokens>,
}

impl Access {
    /// The rights that these tokens give.
    pub fn new(predict: Option<Tokens>, admin: Option<Tokens>) -> Arc<Self> {
        let kept = |tokens: Option<Tokens>| ArcSwapOption::from(tokens.map(Arc::new));
        Arc::new(Self { predict: kept(predict), admin: kept(admin) })
    }

    /// Whether the caller who sent `headers` has a right.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for no token and for one that nobody knows, `PERMISSION_DENIED` for one that gives another right.
    pub(super) fn permit(&self, right: Right, headers: &HeaderMap) -> Result<()> {
        let predict = self.predict.load();
        let Some(predict) = predict.as_deref() else { return Ok(()) };
        let Some(sent) = bearer(headers) else {
            return Err(Error::unauthenticated("a token is needed, expected the header authorization: Bearer TOKEN"));
        };
        let (may_predict, may_administer) = (predict.hold(sent), self.administers(sent));
        match right {
            Right::Predict | Right::Look if may_predict => Ok(()),
            Right::Look if may_administer => Ok(()),
            Right::Predict if may_administer => {
                Err(Error::permission_denied("the token is one for administration, expected one for predictions"))
            }
            _ => Err(Error::unauthenticated("the token is not known")),
        }
    }

    /// Whether the caller who sent `headers` has the token of an administrator.
    pub(super) fn may_administer(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|sent| self.administers(sent))
    }

    fn administers(&self, sent: &[u8]) -> bool {
        self.admin.load().as_deref().is_some_and(|tokens| tokens.hold(sent))
    }
}

/// The token in `authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(SCHEME.len())?;
    Some(token.trim_ascii()).filter(|token| scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn with(value: &str) -> HeaderMap {
        [(AUTHORIZATION, http::HeaderValue::from_str(value).expect("ASCII"))].into_iter().collect()
    }

    fn tokens(text: &str) -> Option<Tokens> {
        Some(Tokens::read(text, "f").expect("tokens"))
    }

    #[test]
    fn each_token_has_its_right() {
        let access = Access::new(tokens("old\n# since May\nnew\n"), tokens(" root \n"));
        let code = |right, headers: &HeaderMap| access.permit(right, headers).err().map(|e| e.code());
        for right in [Right::Predict, Right::Look] {
            assert_eq!(code(right, &with("Bearer old")), None);
            assert_eq!(code(right, &with("bearer  new ")), None, "the scheme has no case");
            for headers in [HeaderMap::new(), with("Bearer "), with("Basic old"), with("Bearer ol"), with("old")] {
                assert_eq!(code(right, &headers), Some(Code::Unauthenticated));
            }
        }
        assert_eq!(code(Right::Look, &with("Bearer root")), None);
        assert_eq!(code(Right::Predict, &with("Bearer root")), Some(Code::PermissionDenied));
        assert!(access.may_administer(&with("Bearer root")) && !access.may_administer(&with("Bearer new")));
        assert!(!format!("{access:?}").contains("root"));
        let open = Access::new(None, tokens("root"));
        assert!(open.permit(Right::Predict, &HeaderMap::new()).is_ok());
    }

    #[test]
    fn what_is_no_token_is_told_with_its_line_and_not_shown() {
        let told = |text: &str| Tokens::read(text, "f").expect_err(text).message().to_owned();
        assert_eq!(told("# nothing\n\n"), "f: no token, expected one a line");
        assert_eq!(told("a\nb c"), "f:2: expected a token of printable ASCII without spaces");
        assert!(told(&"x".repeat(5000)).starts_with("f:1: expected a token of at most 4096 bytes"));
        assert!(told(&"t\n".repeat(1001)).starts_with("f:1001: expected at most 1000 tokens"));
    }
}
