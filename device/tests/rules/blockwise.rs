//! blockwise
