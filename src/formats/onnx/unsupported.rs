//! Everything in a model that cannot run here, said at once.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Node names listed for each operator; the rest are counted.
const MAX_LISTED: usize = 16;

/// Collects what is not supported while the rest of the model is read.
#[derive(Debug, Default)]
pub(super) struct Unsupported {
    /// Operator and reason → nodes.
    operators: BTreeMap<(String, Option<String>), Vec<String>>,
    others: Vec<String>,
}

impl Unsupported {
    /// A node whose operator does not exist here, or not in the variant that `reason` names.
    pub(super) fn operator(&mut self, operator: String, reason: Option<String>, node: &str) {
        self.operators.entry((operator, reason)).or_default().push(node.to_owned());
    }

    /// Something else, such as a value's type.
    pub(super) fn other(&mut self, what: String) {
        self.others.push(what);
    }

    /// Whether there is nothing of the kind so far.
    pub(super) fn is_empty(&self) -> bool {
        self.operators.is_empty() && self.others.is_empty()
    }

    /// Nothing, or the one error.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` listing every operator with its nodes.
    pub(super) fn into_result(self) -> Result<()> {
        let operators = self.operators.iter().map(|((operator, reason), nodes)| {
            let listed: Vec<_> = nodes.iter().take(MAX_LISTED).map(|n| format!("{n:?}")).collect();
            let (plural, listed) = (if nodes.len() == 1 { "" } else { "s" }, listed.join(", "));
            let more = nodes.len().checked_sub(MAX_LISTED).filter(|n| *n > 0);
            let more = more.map(|n| format!(" and {n} more")).unwrap_or_default();
            let reason = reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            format!("{operator} (node{plural} {listed}{more}{reason})")
        });
        let all: Vec<String> = operators.chain(self.others.iter().take(MAX_LISTED).cloned()).collect();
        if all.is_empty() { Ok(()) } else { Err(Error::unimplemented(format!("unsupported: {}", all.join(", ")))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_grouped_with_their_nodes() {
        let mut unsupported = Unsupported::default();
        unsupported.operator("com.microsoft:Bar".into(), None, "c");
        unsupported.operator("Foo".into(), None, "a");
        unsupported.operator("Foo".into(), None, "b");
        unsupported.operator("Resize".into(), Some("antialias".into()), "r");
        let error = unsupported.into_result().expect_err("three operators");
        assert_eq!(
            error.message(),
            r#"unsupported: Foo (nodes "a", "b"), Resize (node "r": antialias), com.microsoft:Bar (node "c")"#
        );
        assert!(Unsupported::default().into_result().is_ok());
    }
}
