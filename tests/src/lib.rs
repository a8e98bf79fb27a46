//! What several of the core's tests share.
//!
//! # What `embed!` refuses
//! The front door has no run-time errors: what is wrong does not compile.
//!
//! An input of the wrong length, against the right one:
//! ```
//! backpropamine::embed!(net: f32 = "../golden/none-f32.bpam");
//! let mut memory = net::Memory::new();
//! net::Agent::new(&mut memory).step(&[0.0; 27]);
//! ```
//! ```compile_fail,E0308
//! backpropamine::embed!(net: f32 = "../golden/none-f32.bpam");
//! let mut memory = net::Memory::new();
//! net::Agent::new(&mut memory).step(&[0.0; 26]);
//! ```
//! Numbers of another arithmetic:
//! ```compile_fail,E0308
//! backpropamine::embed!(net: f32 = "../golden/none-f32.bpam");
//! let mut memory = net::Memory::new();
//! net::Agent::new(&mut memory).step(&[backpropamine::scalar::Q15::from_f32(0.0); 27]);
//! ```
//! An image of another arithmetic:
//! ```compile_fail,E0080
//! backpropamine::embed!(net: Q15 = "../golden/none-f32.bpam");
//! let _ = net::NETWORK;
//! ```
//! Memory of another image:
//! ```compile_fail,E0080
//! backpropamine::embed!(net: f32 = "../golden/none-f32.bpam");
//! let mut memory = backpropamine::network::Memory::<7>::new();
//! net::Agent::new(&mut memory);
//! ```
//! A file that is no image:
//! ```compile_fail,E0080
//! backpropamine::embed!(net: f32 = "../golden/digests.txt");
//! let _ = net::NETWORK;
//! ```

pub mod fuzz;
pub mod golden;
pub mod image;
pub mod parameters;
