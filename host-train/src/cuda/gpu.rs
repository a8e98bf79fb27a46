//! The machine that matters: a GPU, by CUDA's driver and its run-time compiler, both loaded when they are needed. So this builds
//! and starts where neither exists.
//!
//! Every [`Stream`] runs beside the others, so that runs of several seeds fill the chip together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};

use super::{Job, KERNELS, Lives, Machine, Record, Shape};
use crate::cli::ExitKind;

/// Threads of a block of `total`, and parameters it sums.
const WIDTH: usize = 256;
/// Threads that run in step.
const WARP: u32 = 32;

/// The kernels as PTX for GPUs of this compute capability, by CUDA's run-time compiler; needs no GPU.
///
/// # Errors
/// [`ExitKind::MissingTool`] when the compiler's library (NVRTC) is not there; the compiler's log when it refuses the kernels.
pub fn compile((major, minor): (i32, i32)) -> Result<String> {
    require(
        Library::Nvrtc,
        "install the CUDA toolkit, or the Python package nvidia-cuda-nvrtc and name its folder lib in LD_LIBRARY_PATH",
    )?;
    let options = CompileOptions {
        options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
        ..CompileOptions::default()
    };
    let ptx = compile_ptx_with_opts(KERNELS, options).map_err(|error| match error {
        CompileError::CompileError { log, .. } => anyhow!("the CUDA compiler refuses the kernels:\n{}", log.to_string_lossy()),
        other => anyhow!("the CUDA compiler fails: {other}"),
    })?;
    Ok(ptx.to_src())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Library {
    Driver,
    Nvrtc,
}

/// Refuses politely where calling the library would end the program.
#[allow(unsafe_code)]
fn require(library: Library, help: &str) -> Result<(), ExitKind> {
    // SAFETY: loads the library, whose initialisers are NVIDIA's, and calls nothing in it.
    let (name, present) = unsafe {
        match library {
            Library::Driver => ("CUDA driver (libcuda)", cudarc::driver::sys::is_culib_present()),
            Library::Nvrtc => ("CUDA compiler (libnvrtc)", cudarc::nvrtc::sys::is_culib_present()),
        }
    };
    if present {
        return Ok(());
    }
    Err(ExitKind::MissingTool(format!("the {name} is not on this machine: {help}")))
}

/// A GPU with the kernels loaded; one per process, shared by all streams.
struct Gpu {
    context: Arc<CudaContext>,
    live: CudaFunction,
    learn: CudaFunction,
    total: CudaFunction,
    /// Bytes of shared memory that a block may have.
    shared: usize,
}

impl Gpu {
    fn open(ordinal: usize) -> Result<Arc<Self>> {
        static GPUS: Mutex<BTreeMap<usize, Arc<Gpu>>> = Mutex::new(BTreeMap::new());
        let mut gpus = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = gpus.get(&ordinal) {
            return Ok(Arc::clone(gpu));
        }
        let gpu = Arc::new(Self::load(ordinal)?);
        gpus.insert(ordinal, Arc::clone(&gpu));
        Ok(gpu)
    }

    fn load(ordinal: usize) -> Result<Self> {
        require(
            Library::Driver,
            "--device cuda needs an NVIDIA GPU and its driver; use --device cpu",
        )?;
        let missing = |error: DriverError| ExitKind::MissingTool(format!("GPU {ordinal} cannot be used: {error}; use --device cpu"));
        let context = CudaContext::new(ordinal).map_err(missing)?;
        let ptx = compile(context.compute_capability()?)?;
        let module = context
            .load_module(ptx.into())
            .context("the GPU's driver refuses the kernels: is it older than the CUDA compiler?")?;
        let shared = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let function = |name: &str| -> Result<CudaFunction, DriverError> {
            let function = module.load_function(name)?;
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared)?;
            Ok(function)
        };
        Ok(Self {
            live: function("live")?,
            learn: function("learn")?,
            total: module.load_function("total")?,
            context,
            shared: shared as usize,
        })
    }
}

/// One block per lifetime, one thread per neuron and a warp for the task, as far as the kernel's registers allow.
fn launch(shape: &Shape, function: &CudaFunction, shared: usize) -> Result<LaunchConfig, DriverError> {
    let most = function.max_threads_per_block()? as u32 / WARP * WARP;
    Ok(LaunchConfig {
        grid_dim: (shape.lifetimes, 1, 1),
        block_dim: ((shape.neurons.next_multiple_of(WARP) + WARP).min(most), 1, 1),
        shared_mem_bytes: (shared * size_of::<f32>()) as u32,
    })
}

/// One queue of work on a GPU, and what its last batch left there.
pub struct Stream {
    gpu: Arc<Gpu>,
    stream: Arc<CudaStream>,
    batch: Option<Batch>,
}

impl Stream {
    /// A queue of its own on the `ordinal`-th GPU.
    ///
    /// # Errors
    /// [`ExitKind::MissingTool`] when driver, compiler or GPU is missing.
    pub fn new(ordinal: usize) -> Result<Self> {
        let gpu = Gpu::open(ordinal)?;
        let stream = gpu.context.new_stream()?;
        Ok(Self { gpu, stream, batch: None })
    }

    /// The shape with traces in shared memory if they fit beside `others` numbers, and the shared numbers of a block.
    fn placed(&self, mut shape: Shape, others: usize) -> (Shape, usize) {
        let all = others + shape.state();
        shape.in_shared = all * size_of::<f32>() <= self.gpu.shared;
        (shape, if shape.in_shared { all } else { others })
    }
}

/// The memory of a batch on the GPU.
struct Batch {
    shape: Shape,
    parameters: CudaSlice<f32>,
    inputs: CudaSlice<f32>,
    hidden: CudaSlice<f32>,
    modulator: CudaSlice<f32>,
    heads: CudaSlice<f32>,
    actions: CudaSlice<i32>,
    rewards: CudaSlice<f32>,
    trials: CudaSlice<i32>,
    zeros: CudaSlice<f32>,
    gradient: CudaSlice<f32>,
    sum: CudaSlice<f32>,
    scratch: CudaSlice<f32>,
}

impl Batch {
    fn new(stream: &Arc<CudaStream>, shape: Shape) -> Result<Self, DriverError> {
        // The driver refuses to reserve nothing.
        let floats = |count: usize| stream.alloc_zeros::<f32>(count.max(1));
        let ints = || stream.alloc_zeros::<i32>(shape.rows());
        let rows = |width: u32| floats(shape.rows() * width as usize);
        let lifetimes = shape.lifetimes as usize;
        Ok(Self {
            shape,
            parameters: floats(shape.parameters())?,
            inputs: rows(shape.inputs)?,
            hidden: rows(shape.neurons)?,
            modulator: rows(shape.modulators)?,
            heads: rows(shape.actions + 1)?,
            actions: ints()?,
            rewards: rows(1)?,
            trials: ints()?,
            zeros: floats(shape.neurons as usize)?,
            gradient: floats(lifetimes * shape.parameters())?,
            sum: floats(shape.parameters())?,
            scratch: floats(lifetimes * shape.scratch())?,
        })
    }
}

impl Machine for Stream {
    fn name(&self) -> Result<String> {
        Ok(self.gpu.context.name()?)
    }

    #[allow(unsafe_code)]
    fn live(&mut self, job: &Job) -> Result<Lives> {
        let mut batch = match self.batch.take() {
            Some(batch) if batch.shape == job.shape => batch,
            _ => Batch::new(&self.stream, job.shape).context("the GPU has no memory for this batch: lower training.batch")?,
        };
        let (shape, shared) = self.placed(job.shape, job.shape.live_shared());
        let (words, world) = (shape.words(), job.world.words());
        let config = launch(&shape, &self.gpu.live, shared)?;
        self.stream.memcpy_htod(&job.parameters, &mut batch.parameters)?;
        let mut launch = self.stream.launch_builder(&self.gpu.live);
        launch.arg(&words).arg(&world).arg(&batch.parameters);
        launch.arg(&mut batch.inputs).arg(&mut batch.hidden).arg(&mut batch.modulator);
        launch.arg(&mut batch.heads).arg(&mut batch.actions).arg(&mut batch.rewards);
        launch.arg(&mut batch.trials).arg(&mut batch.scratch);
        // SAFETY: the arguments are those of `live` in kernels.cu, with structs as their words; `Batch::new` made the arrays as long as
        // that kernel says for this shape, and the block has the shared memory it says.
        unsafe { launch.launch(config) }?;
        let lives = Lives {
            heads: self.stream.clone_dtoh(&batch.heads)?,
            actions: self.stream.clone_dtoh(&batch.actions)?,
            rewards: self.stream.clone_dtoh(&batch.rewards)?,
            trials: self.stream.clone_dtoh(&batch.trials)?,
        };
        self.stream.synchronize()?;
        self.batch = Some(batch);
        Ok(lives)
    }

    fn record(&mut self) -> Result<Record> {
        let batch = self.batch.as_ref().context("no lifetime was lived yet")?;
        let mut record = Record {
            inputs: self.stream.clone_dtoh(&batch.inputs)?,
            hidden: self.stream.clone_dtoh(&batch.hidden)?,
            modulator: self.stream.clone_dtoh(&batch.modulator)?,
        };
        self.stream.synchronize()?;
        // No modulators have one number all the same, see `Batch::new`.
        record.modulator.truncate(batch.shape.rows() * batch.shape.modulators as usize);
        Ok(record)
    }

    #[allow(unsafe_code)]
    fn learn(&mut self, by_heads: &[f32]) -> Result<Vec<f32>> {
        let mut batch = self.batch.take().context("no lifetime was lived yet")?;
        let (shape, shared) = self.placed(batch.shape, batch.shape.learn_shared());
        let words = shape.words();
        let config = launch(&shape, &self.gpu.learn, shared)?;
        // The values of the heads are not needed any more.
        self.stream.memcpy_htod(by_heads, &mut batch.heads)?;
        let mut learn = self.stream.launch_builder(&self.gpu.learn);
        learn.arg(&words).arg(&batch.parameters).arg(&batch.inputs).arg(&batch.hidden);
        learn.arg(&batch.modulator).arg(&batch.heads).arg(&batch.zeros);
        learn.arg(&mut batch.gradient).arg(&mut batch.scratch);
        // SAFETY: as in `live`, by the comment on `learn` in kernels.cu.
        unsafe { learn.launch(config) }?;
        let config = LaunchConfig {
            grid_dim: (shape.parameters().div_ceil(WIDTH) as u32, 1, 1),
            block_dim: (WIDTH as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut total = self.stream.launch_builder(&self.gpu.total);
        total.arg(&words).arg(&batch.gradient).arg(&mut batch.sum);
        // SAFETY: as above; a block sums `WIDTH` of the parameters, and `total` leaves those out that are too many.
        unsafe { total.launch(config) }?;
        let sum = self.stream.clone_dtoh(&batch.sum)?;
        self.stream.synchronize()?;
        self.batch = Some(batch);
        Ok(sum)
    }
}
