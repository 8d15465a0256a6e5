//! Graphs and programs as plain data: what every importer ends in and every device starts from.

mod attributes;
mod chain;
mod fact;
mod graph;
mod kernel;
mod op;
mod profile;
mod program;
mod recorder;
mod rows;

pub use attributes::{Attribute, Attributes};
pub use chain::{Access, Chain, ChainOperand, PointwiseBuilder, PointwiseInput, Reg};
pub use fact::Fact;
pub use graph::{Graph, Node, ValueId, ValueInfo};
pub use kernel::{Binding, Define, Kernel, Library, Link, Shader};
pub use op::{Affine, Cost, Op, Replacement, Source};
pub use profile::{Class, Family, Profile, Storage};
pub use program::{Buffer, BufferId, Dispatch, HostStep, Port, Program, Segment, Slot};
pub use recorder::{Operand, Recorder, Scene, Work, linear_groups};
pub use rows::{Rows, RowsQuery};
