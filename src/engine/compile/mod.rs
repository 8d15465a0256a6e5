//! Graph → Program: folding, fusion, lowering and memory planning, as pure functions.
