//! What the processor can do, as llama.cpp sees it.

use llama_cpp_sys_2 as sys;

/// Features by which llama.cpp chooses how it lays weights out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuFeatures {
    pub(crate) avx2: bool,
    pub(crate) avx512: bool,
    pub(crate) neon: bool,
    pub(crate) dotprod: bool,
    pub(crate) matmul_int8: bool,
}

impl CpuFeatures {
    /// Asks llama.cpp, which knows both the processor and how it was built itself.
    pub(crate) fn detect() -> Self {
        // SAFETY: these functions take nothing and read constants of the build or of the processor.
        unsafe {
            Self {
                avx2: sys::ggml_cpu_has_avx2() != 0,
                avx512: sys::ggml_cpu_has_avx512() != 0,
                neon: sys::ggml_cpu_has_neon() != 0,
                dotprod: sys::ggml_cpu_has_dotprod() != 0,
                matmul_int8: sys::ggml_cpu_has_matmul_int8() != 0,
            }
        }
    }
}

/// Returns how many cores Apple calls its performance cores; `None` if it does not say.
#[cfg(target_vendor = "apple")]
pub(crate) fn n_performance_cores() -> Option<usize> {
    let mut n: i32 = 0;
    let mut size = size_of::<i32>();

    // SAFETY: the name ends with NUL; the system writes no more than `size` bytes, and an `i32` may be any four bytes.
    let result = unsafe {
        libc::sysctlbyname(
            c"hw.perflevel0.physicalcpu".as_ptr(),
            (&raw mut n).cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    usize::try_from(n).ok().filter(|&n| result == 0 && n > 0)
}

/// Only Apple's systems say so.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn n_performance_cores() -> Option<usize> {
    None
}
