//! A WGSL entry point as data, and how its text is put together.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::chain::Chain;
use super::chain_text::Target;
use super::profile::{Class, Storage};
use crate::error::{Error, Result};

/// What a shader does with one of its bindings in group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written.
    ReadWrite,
    /// A uniform buffer of parameters; always the last one of a shader.
    Uniform,
}

/// A shader file as build.rs reflected it, or one that the generator made.
#[derive(Clone, Debug)]
pub struct Shader {
    /// The file's stem.
    pub name: &'static str,
    /// The file's text.
    pub source: std::borrow::Cow<'static, str>,
    /// Bindings of group 0 in order.
    pub bindings: &'static [Binding],
    /// What `store` writes, for shaders that end in an epilogue.
    pub target: Option<Target>,
}

/// A complete kernel: equal sources and overrides share one pipeline.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The shader's name, for labels.
    pub name: &'static str,
    /// The linked text, with one entry point `main`.
    pub source: Arc<str>,
    /// Bindings of group 0 in order.
    pub bindings: Vec<Binding>,
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Kernel {}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

/// The constant by which a kernel says that four results in a row are of four channels in a row.
pub const CHANNELS_VARY: &str = "CHANNELS_VARY";

/// A line of a kernel's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Define {
    /// `alias NAME = TYPE;`
    Scalar(&'static str, Storage),
    /// `const NAME: u32 = VALUE;`
    Const(&'static str, u32),
}

/// Library functions by name: the texts of a function and of those it calls.
pub type Library = dyn Fn(&str) -> Option<&'static [&'static str]>;

/// What surrounds a shader's own text.
pub struct Link<'a> {
    /// Aliases and constants that the shader's text expects.
    pub defines: &'a [Define],
    /// The class of the values passed to `store`.
    pub class: Class,
    /// How the target buffer's elements lie.
    pub out: Storage,
    /// What is done to each value before it is stored.
    pub chain: &'a Chain,
    /// Library functions by name.
    pub library: &'a Library,
}

impl Shader {
    /// The kernel of this shader under `link`.
    ///
    /// # Errors
    /// `INTERNAL` when the chain calls a function that the library lacks.
    pub fn link(&self, link: &Link<'_>) -> Result<Kernel> {
        let mut text = String::with_capacity(self.source.len() + 1024);
        let half = link.out == Storage::F16
            || link.chain.operands.iter().any(|o| o.storage == Storage::F16)
            || link.defines.iter().any(|d| matches!(d, Define::Scalar(_, Storage::F16)));
        if half {
            text.push_str("enable f16;\n");
        }
        // Directives stand before all else.
        let directive = |line: &&str| line.starts_with("enable ") || line.starts_with("diagnostic(");
        let length = self.source.split_inclusive('\n').take_while(directive).map(str::len).sum();
        let (directives, source) = self.source.split_at(length);
        text.push_str(directives);
        let _ = writeln!(text, "alias Value = {};\nalias Out = {};", link.class.wgsl(), link.out.wgsl());
        for define in link.defines {
            let _ = match define {
                Define::Scalar(name, storage) => writeln!(text, "alias {name} = {};", storage.wgsl()),
                Define::Const(name, value) => writeln!(text, "const {name}: u32 = {value}u;"),
            };
        }
        text.push_str(source);
        let mut bindings = self.bindings.to_vec();
        if let Some(target) = self.target {
            let mut bodies = BTreeSet::new();
            for function in link.chain.functions() {
                let needed = (link.library)(function).ok_or_else(|| {
                    Error::internal(format!("shaders/lib/pointwise*.wgsl has no function {function}"))
                })?;
                bodies.extend(needed.iter().copied());
            }
            bodies.into_iter().for_each(|body| text.push_str(body));
            let channels_vary = link.defines.contains(&Define::Const(CHANNELS_VARY, 1));
            text.push_str(&link.chain.emit(bindings.len(), target, channels_vary));
            bindings.extend(link.chain.operands.iter().map(|_| Binding::Read));
            if !link.chain.words.is_empty() {
                bindings.push(Binding::Uniform);
            }
        }
        Ok(Kernel { name: self.name, source: text.into(), bindings })
    }
}
