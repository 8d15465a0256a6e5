//! Who may change what is served, and to what.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::tokens::Access;
use crate::batch::Parameters;
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// Whom a connection leads to, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// It comes from this machine: a loopback address or a unix socket.
    pub is_local: bool,
    /// It has shown a certificate that was accepted.
    pub has_certificate: bool,
}

/// The rules for changing the configuration over the wire.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// Anybody may.
    pub open: bool,
    /// Whoever shows an administrator's token may: `authorization: Bearer TOKEN`.
    pub access: Arc<Access>,
    /// Folders below which models must lie, canonical.
    pub roots: Vec<PathBuf>,
    /// How long a call waits for its models.
    pub timeout: Duration,
    /// How to batch the models that come.
    pub batching: Option<Parameters>,
}

impl Admin {
    /// Whether a caller may change the configuration.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` saying what would be enough.
    pub(super) fn permit(&self, headers: &HeaderMap, peer: Peer) -> Result<()> {
        if self.open || peer.is_local || peer.has_certificate || self.access.may_administer(headers) {
            return Ok(());
        }
        Err(Error::permission_denied(
            "changing the configuration needs an admin token (--admin_token_file), a client certificate \
             (--tls_client_ca_file), or a caller on the server's own machine; --admin_open lets anybody",
        ))
    }

    /// Whether the models lie where they may.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for relative paths, `PERMISSION_DENIED` for those outside the roots.
    pub(super) fn check_paths(&self, configs: &[ModelConfig]) -> Result<()> {
        for config in configs {
            let (name, path) = (&config.name, config.base_path.display());
            if !config.base_path.is_absolute() {
                return Err(Error::invalid_argument(format!(
                    "Expected model {name} to have an absolute path or URI; got base_path()={path}"
                )));
            }
            let real = real(&config.base_path);
            if !real.is_some_and(|real| self.roots.iter().any(|root| real.starts_with(root))) {
                return Err(Error::permission_denied(format!(
                    "model {name}: base_path {path} does not lie below one of --model_roots"
                )));
            }
        }
        Ok(())
    }
}

/// Where a path leads, links followed as far as it exists. `None` for one that climbs where nothing is.
fn real(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        if let Ok(found) = there.canonicalize() {
            return Some(missing.iter().rev().fold(found, |path, name| path.join(name)));
        }
        match there.components().next_back()? {
            // What is there but leads nowhere is a broken link: where it will lead is not known.
            Component::Normal(name) if there.symlink_metadata().is_err() => missing.push(name),
            _ => return None,
        }
        there = there.parent()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tokens::Tokens;
    use crate::error::Code;

    #[test]
    fn strangers_need_the_token() {
        let tokens = Tokens::read(" s3cret\n", "f").expect("a token");
        let admin = Admin { access: Access::new(None, Some(tokens)), ..Admin::default() };
        let with = |value: &str| {
            let value = http::HeaderValue::from_str(value).expect("ASCII");
            [(http::header::AUTHORIZATION, value)].into_iter().collect::<HeaderMap>()
        };
        let stranger = Peer::default();
        assert!(admin.permit(&with("Bearer s3cret"), stranger).is_ok());
        for headers in [HeaderMap::new(), with("Bearer s3cre"), with("Bearer "), with("s3cret")] {
            let error = admin.permit(&headers, stranger).expect_err("no right");
            assert_eq!(error.code(), Code::PermissionDenied);
            assert!(error.message().contains("--admin_open") && !error.message().contains("s3cret"), "{error}");
        }
        assert!(admin.permit(&HeaderMap::new(), Peer { is_local: true, ..stranger }).is_ok());
        assert!(admin.permit(&HeaderMap::new(), Peer { has_certificate: true, ..stranger }).is_ok());
        assert!(Admin { open: true, ..Admin::default() }.permit(&HeaderMap::new(), stranger).is_ok());
        assert!(Admin::default().permit(&with("Bearer "), stranger).is_err(), "no token is no token");
        assert!(!format!("{admin:?}").contains("s3cret"));
    }

    #[test]
    fn models_must_lie_below_the_roots() {
        let (inside, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let root = inside.path().canonicalize().expect("it is there");
        let admin = Admin { roots: vec![root.clone()], ..Admin::default() };
        let check = |path: PathBuf| admin.check_paths(&[ModelConfig::new("m", path)]).map_err(|e| e.code());
        assert_eq!(check(root.join("not/yet")), Ok(()));
        assert_eq!(check("relative".into()), Err(Code::InvalidArgument));
        assert_eq!(check(outside.path().into()), Err(Code::PermissionDenied));
        assert_eq!(check(root.join("../elsewhere")), Err(Code::PermissionDenied));
        assert_eq!(check(root.join("no/../../elsewhere")), Err(Code::PermissionDenied));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outside.path(), root.join("link")).expect("links can be made");
            assert_eq!(check(root.join("link/model")), Err(Code::PermissionDenied));
        }
    }
}
