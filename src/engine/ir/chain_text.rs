//! The text of a chain: the functions that kernels call to store what they compute.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::chain::{Access, Chain, ChainOperand, STRIDED_AXES, Step};
use super::profile::{Class, Storage};

/// The buffer that a kernel's results go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in the text.
    pub buffer: &'static str,
    /// Whether it is an array of vectors of four, so that four results in a row can be stored at once. On software adapters
    /// an access costs the same whatever its width.
    pub wide: bool,
}

/// How four elements in a row, the first at a multiple of four, read an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fours {
    /// Four in a row, at a multiple of four.
    Vector,
    /// All the same one.
    Splat,
    /// Each for itself.
    Each,
}

impl ChainOperand {
    fn fours(&self, channels_vary: bool) -> Fours {
        if matches!(self.storage, Storage::Packed(_)) {
            return Fours::Each;
        }
        match &self.access {
            Access::Same => Fours::Vector,
            access @ Access::Flat { .. } if access.keeps_fours() => Fours::Vector,
            Access::Flat { .. } => Fours::Each,
            Access::Scalar => Fours::Splat,
            Access::Channel if channels_vary => Fours::Vector,
            Access::Channel => Fours::Splat,
            Access::Cycle { inner: 1, count } if count.is_multiple_of(4) => Fours::Vector,
            Access::Cycle { inner, .. } if inner.is_multiple_of(4) => Fours::Splat,
            Access::Cycle { .. } => Fours::Each,
            Access::Strided(axes) => match axes.split_last() {
                None => Fours::Splat,
                Some(((extent, 0), _)) if extent.is_multiple_of(4) => Fours::Splat,
                Some(((extent, 1), outer)) if extent.is_multiple_of(4) && outer.iter().all(|(_, s)| s % 4 == 0) => {
                    Fours::Vector
                }
                Some(_) => Fours::Each,
            },
        }
    }
}

/// Where an element is, as text: its index and its channel.
#[derive(Clone, Copy)]
struct At<'a> {
    index: &'a str,
    channel: &'a str,
}

impl Chain {
    /// The names of the library functions that are called.
    pub fn functions(&self) -> BTreeSet<&'static str> {
        let called = self.steps.iter().filter_map(|(step, _)| match step {
            Step::Call { function, .. } => Some(*function),
            _ => None,
        });
        let strided =
            |operand: &ChainOperand| matches!(&operand.access, Access::Strided(axes) if axes.len() <= STRIDED_AXES);
        called.chain(self.operands.iter().any(strided).then_some("strided")).collect()
    }

    /// WGSL declaring the operands from binding `first_binding` on, the words after them, and
    /// `fn store(value: Value, i: u32, c: u32)`, which writes element `i`, of channel `c`, of `target`; for a wide one also
    /// `fn store4(value: vec4<Value>, i: u32, c: u32)`, which writes four elements from `i` on, a multiple of four, of
    /// channels from `c` on where `channels_vary` and of channel `c` elsewhere.
    pub(super) fn emit(&self, first_binding: usize, target: Target, channels_vary: bool) -> String {
        let mut text = String::new();
        let fours = |operand: &ChainOperand| if target.wide { operand.fours(channels_vary) } else { Fours::Each };
        for (index, operand) in self.operands.iter().enumerate() {
            let (binding, scalar) = (first_binding + index, operand.storage.wgsl());
            let element = if fours(operand) == Fours::Vector { format!("vec4<{scalar}>") } else { scalar.to_owned() };
            let _ =
                writeln!(text, "@group(0) @binding({binding}) var<storage, read> operand{index}: array<{element}>;");
        }
        if !self.words.is_empty() {
            let (binding, vectors) = (first_binding + self.operands.len(), self.words.len().div_ceil(4));
            let _ = writeln!(text, "@group(0) @binding({binding}) var<uniform> words: array<vec4<u32>, {vectors}>;");
        }
        self.emit_chained(&mut text);
        let buffer = target.buffer;
        text.push_str("fn store(value: Value, i: u32, c: u32) {\n");
        let one = At { index: "i", channel: "c" };
        for (step, operand, words) in self.loads() {
            let vector = fours(&self.operands[operand]) == Fours::Vector;
            let value = self.element(&mut text, step, (operand, words), one, vector);
            let _ = writeln!(text, "    let l{step} = {value};");
        }
        let at = self.place(&mut text);
        let element = if target.wide { format!("[{at} >> 2u][{at} & 3u]") } else { format!("[{at}]") };
        let _ = writeln!(
            text,
            "    {buffer}{element} = Out(chained(value{}));\n}}",
            self.arguments(|step| format!("l{step}"))
        );
        if target.wide {
            self.emit_store4(&mut text, target, channels_vary);
        }
        text
    }

    fn emit_store4(&self, text: &mut String, target: Target, channels_vary: bool) {
        text.push_str("fn store4(value: vec4<Value>, i: u32, c: u32) {\n");
        let mut scalars = BTreeSet::new();
        for (step, operand, words) in self.loads() {
            let (class, read) = (self.steps[step].1.wgsl(), &self.operands[operand]);
            match read.fours(channels_vary) {
                Fours::Vector => {
                    let at = index(&read.access, words, At { index: "i", channel: "c" });
                    let _ = writeln!(text, "    let l{step} = vec4<{class}>(operand{operand}[({at}) >> 2u]);");
                }
                Fours::Splat => {
                    let value = self.element(text, step, (operand, words), At { index: "i", channel: "c" }, false);
                    let _ = writeln!(text, "    let l{step} = {value};");
                    scalars.insert(step);
                }
                Fours::Each => {
                    let mut values = Vec::new();
                    for place in 0..4 {
                        let (i, c) = (format!("(i + {place}u)"), format!("(c + {place}u)"));
                        let channel = if channels_vary { &c } else { "c" };
                        let name = step * 4 + place;
                        values.push(self.element(text, name, (operand, words), At { index: &i, channel }, false));
                    }
                    let _ = writeln!(text, "    let l{step} = vec4<{class}>({});", values.join(", "));
                }
            }
        }
        let component = |place: char| {
            let of = |step| if scalars.contains(&step) { format!("l{step}") } else { format!("l{step}.{place}") };
            format!("Out(chained(value.{place}{}))", self.arguments(of))
        };
        let components = ['x', 'y', 'z', 'w'].map(component);
        let at = self.place(text);
        let _ = writeln!(text, "    {}[{at} >> 2u] = vec4<Out>({});\n}}", target.buffer, components.join(", "));
    }

    /// The name of the place where element `i` is stored.
    fn place(&self, text: &mut String) -> &'static str {
        let Some((access, words)) = &self.stored else { return "i" };
        let _ = writeln!(text, "    let at = {};", index(access, *words, At { index: "i", channel: "c" }));
        "at"
    }

    /// Every step that reads an operand: its number, the operand and the first of its words.
    fn loads(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.steps.iter().enumerate().filter_map(|(step, (kind, _))| match kind {
            Step::Load { operand, words } => Some((step, *operand, *words)),
            _ => None,
        })
    }

    /// `, NAME` for every operand read.
    fn arguments(&self, name: impl Fn(usize) -> String) -> String {
        self.loads().map(|(step, ..)| format!(", {}", name(step))).collect()
    }

    /// An element of an operand, of the step's class; `vector` where it is bound as vectors of four. `name` is free for a
    /// variable.
    fn element(&self, text: &mut String, name: usize, load: (usize, usize), at: At<'_>, vector: bool) -> String {
        let (operand, words) = load;
        let read = &self.operands[operand];
        let at = index(&read.access, words, at);
        match read.storage {
            Storage::Packed(packing) => {
                let _ = writeln!(text, "    let at{name} = {at};");
                packing.element(&format!("operand{operand}"), &format!("at{name}"))
            }
            storage if vector => {
                let _ = writeln!(text, "    let at{name} = {at};");
                format!("{}(operand{operand}[at{name} >> 2u][at{name} & 3u])", storage.class().wgsl())
            }
            storage => format!("{}(operand{operand}[{at}])", storage.class().wgsl()),
        }
    }

    /// `fn chained(value, …)`: the scalar program over the kernel's value and what is read.
    fn emit_chained(&self, text: &mut String) {
        let read: String = self.loads().map(|(step, ..)| format!(", l{step}: {}", self.steps[step].1.wgsl())).collect();
        let result = self.result.map_or(0, |r| r.0);
        let class = self.steps.get(result).map_or("Value", |(_, class)| class.wgsl());
        let _ = writeln!(text, "fn chained(value: Value{read}) -> {class} {{");
        for (index, (step, class)) in self.steps.iter().enumerate() {
            let expression = match step {
                Step::Value => "value".to_owned(),
                Step::Load { .. } => format!("l{index}"),
                Step::Word { word } if class.is_wide() => {
                    let bits = format!("(u64({}) << 32u) | u64({})", word_text(word + 1), word_text(*word));
                    match class {
                        Class::F64 => format!("bitcast<f64>({bits})"),
                        _ => format!("{}({bits})", class.wgsl()),
                    }
                }
                Step::Word { word } => format!("bitcast<{}>({})", class.wgsl(), word_text(*word)),
                Step::Call { function, arguments } => {
                    let arguments: Vec<_> = arguments.iter().map(|r| format!("v{}", r.0)).collect();
                    format!("{function}({})", arguments.join(", "))
                }
                // Widened before the sign changes: drivers are told to extend by the sign of the result.
                Step::Convert { from } => match (self.class(*from), class) {
                    (Class::U32, Class::I64) => format!("i64(u64(v{}))", from.0),
                    (Class::I32, Class::U64) => format!("u64(i64(v{}))", from.0),
                    _ => format!("{}(v{})", class.wgsl(), from.0),
                },
            };
            let _ = writeln!(text, "    let v{index} = {expression};");
        }
        let _ = writeln!(text, "    return v{result};\n}}");
    }
}

/// The element of an operand that output element `at` reads.
fn index(access: &Access, words: usize, at: At<'_>) -> String {
    let At { index: i, channel } = at;
    match access {
        Access::Same => i.to_owned(),
        Access::Scalar => "0u".to_owned(),
        Access::Channel => channel.to_owned(),
        Access::Cycle { inner: 1, .. } => format!("remainder({i}, {})", word_text(words + 1)),
        Access::Cycle { .. } => {
            format!("remainder(quotient({i}, {}), {})", word_text(words), word_text(words + 1))
        }
        Access::Flat { gap: 0, .. } => format!("{} + {i}", word_text(words + 2)),
        Access::Flat { .. } => {
            let [inner, gap, first] = [0, 1, 2].map(|word| word_text(words + word));
            format!("{first} + {i} + quotient({i}, {inner}) * {gap}")
        }
        Access::Strided(axes) if axes.len() <= STRIDED_AXES => {
            format!("strided({i}, words[{}], words[{}])", words / 4, words / 4 + 1)
        }
        Access::Strided(axes) => {
            // Innermost axis first: the remaining index is divided by each extent in turn.
            let mut rest = i.to_owned();
            let mut terms = Vec::new();
            for axis in (0..axes.len()).rev() {
                let (extent, stride) = (word_text(words + 2 * axis), word_text(words + 2 * axis + 1));
                if axis == 0 {
                    terms.push(format!("({rest}) * {stride}"));
                } else {
                    terms.push(format!("remainder({rest}, {extent}) * {stride}"));
                    rest = format!("quotient({rest}, {extent})");
                }
            }
            terms.join(" + ")
        }
    }
}

fn word_text(word: usize) -> String {
    format!("words[{}].{}", word / 4, ["x", "y", "z", "w"][word % 4])
}
