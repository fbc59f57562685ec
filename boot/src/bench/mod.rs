//! The benchmarks: boots the image of figures, reads its lines and shows, keeps and compares them.

pub mod row;
