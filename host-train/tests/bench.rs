//! What `bench train` measures, small enough for every day.

use backpropamine_train::bench::train::{Options, bench_train};
use backpropamine_train::recurrence::Kernel;

#[test]
fn an_iteration_is_twenty_times_cheaper_than_step_by_step_differentiation() {
    let report = bench_train(&Options {
        largest: 32,
        pairs: 1,
        ..Options::default()
    })
    .unwrap();
    println!("{report}");
    assert_ne!(report.kernel, Kernel::Auto, "the report names the kernel that ran");
    assert_eq!(report.shapes.len(), 4, "cue and maze, simple and retroactive");
    for shape in &report.shapes {
        assert!(
            shape.work.operations > 0.0 && shape.operations_share < 1.0,
            "{}\n{report}",
            shape.rule
        );
        assert!(shape.two_threads.is_some_and(|ratio| ratio > 0.0));
        let ratio = shape.ratio.unwrap();
        assert!(ratio >= 20.0, "{}: {ratio:.1} times cheaper only\n{report}", shape.rule);
    }
}
