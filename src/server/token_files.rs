//! Where tokens come from: files or the environment, never flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::sealed::{Sealed, Seen, read_sealed};
use super::values::Values;
use crate::api::{Access, Tokens};
use crate::error::{Error, Result};

/// The settings that name a file, and the variables that stand in for it.
const PREDICT: (&str, &str) = ("predict_token_file", "CORACLE_PREDICT_TOKEN");
const ADMIN: (&str, &str) = ("admin_token_file", "CORACLE_ADMIN_TOKEN");

fn read(path: &Path) -> Result<Tokens> {
    Tokens::read(&read_sealed(path)?, &path.display().to_string())
}

/// Tokens, and the file that they came from, if so.
type Given = (Option<Tokens>, Option<(PathBuf, Seen)>);

impl Values {
    /// Who may do what, and the files to be followed for it. `variable` reads an environment variable.
    ///
    /// # Errors
    /// Each mistake, with its place and what was expected.
    pub(super) fn access(
        &self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(Arc<Access>, Vec<Sealed>), Vec<Error>> {
        let given = |(setting, name): (&str, &str)| -> Result<Given> {
            let Some(path) = self.path(setting) else {
                let text = variable(name).filter(|text| !text.is_empty());
                return Ok((text.map(|text| Tokens::read(&text, name)).transpose()?, None));
            };
            let seen = Seen::now(vec![path.clone()]);
            let tokens = read(&path).map_err(|e| e.at(format_args!("--{setting}")))?;
            Ok((Some(tokens), Some((path, seen))))
        };
        let ((predict, predict_file), (admin, admin_file)) = match (given(PREDICT), given(ADMIN)) {
            (Ok(predict), Ok(admin)) => (predict, admin),
            (predict, admin) => return Err([predict.err(), admin.err()].into_iter().flatten().collect()),
        };
        let access = Access::new(predict, admin);
        let follow = |(path, seen): (PathBuf, Seen), kept: fn(&Access) -> &ArcSwapOption<Tokens>| {
            let access = Arc::clone(&access);
            let renew = move || {
                kept(&access).store(Some(Arc::new(read(&path).map_err(|e| vec![e])?)));
                Ok(())
            };
            Sealed::new("tokens", seen, Box::new(renew))
        };
        let predict_file = predict_file.map(|file| follow(file, |access| &access.predict));
        let admin_file = admin_file.map(|file| follow(file, |access| &access.admin));
        let files = predict_file.into_iter().chain(admin_file).collect();
        Ok((access, files))
    }
}
