//! The shader library's scalar functions by what they do and what they compute in.

use crate::engine::ir::Class;
use crate::engine::kernels::FUNCTIONS;

/// The function of `shaders/lib/pointwise*.wgsl` that does `what` on values of `class`, if there is one: `add` of `i64` is `add_l`.
pub(super) fn of_class(what: &str, class: Class) -> Option<&'static str> {
    let fits = |name: &&str| {
        let rest = name.strip_prefix(what).and_then(|rest| rest.strip_prefix('_'));
        rest == Some(class.suffix())
    };
    FUNCTIONS.iter().copied().find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole() {
        assert_eq!(of_class("less", Class::I64), Some("less_l"));
        assert_eq!(of_class("less_equal", Class::U64), Some("less_equal_ul"));
        assert_eq!(of_class("pow", Class::F64), None);
    }
}
