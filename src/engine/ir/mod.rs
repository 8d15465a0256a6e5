//! Graphs and programs as plain data: what every importer ends in and every device starts from.

mod attributes;
mod chain;
mod choices;
mod expansion;
mod fact;
mod given;
mod graph;
mod infer;
mod kernel;
mod op;
pub mod oracle;
mod packing;
mod profile;
mod program;
mod quantized;
mod recorder;
mod rows;

pub use attributes::{Attribute, Attributes, Subgraph};
pub use chain::{Access, Chain, ChainOperand, PointwiseBuilder, PointwiseInput, Reg};
pub use choices::{Choices, Problem, prune};
pub use expansion::{ExpandedNode, Expansion, Wire};
pub use fact::{Elements, Fact, MAX_FOLLOWED_PARTS};
pub use given::Given;
pub use graph::{Graph, Node, ValueId, ValueInfo};
pub use infer::{infer, infer_extents};
pub use kernel::{Binding, Define, Kernel, Library, Link, Shader};
pub use op::{Affine, Cost, Op, Replacement, Source};
pub use packing::Packing;
pub use profile::{Class, Family, Precision, Profile, Storage};
pub use program::{Arithmetic, Buffer, BufferId, Dispatch, HostStep, OutputPlace, Port, Program, Rest, Segment, Slot};
pub use quantized::{Grid, Quantized, ScaleLayout, WeightAxes};
pub use recorder::{Operand, OperandGrid, Recorder, Scene, Work, linear_groups};
pub use rows::{Rows, RowsQuery};
