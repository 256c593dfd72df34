//! Memory of GPUs, as reported by the driver's tool.

use std::process::Command;

/// Bytes in use by any process on all devices that `nvidia-smi` lists; `None` without this tool.
///
/// libtorch keeps memory that it has reserved on a device, so the use at the end of a phase is the peak up to
/// that point.
pub(super) fn used_bytes() -> Option<u64> {
    let output = Command::new("nvidia-smi").args(["--query-gpu=memory.used", "--format=csv,noheader,nounits"]).output();
    let output = output.ok().filter(|output| output.status.success())?;
    sum_of(&String::from_utf8(output.stdout).ok()?)
}

/// The sum of numbers of mebibytes, one per line.
fn sum_of(lines: &str) -> Option<u64> {
    let mebibytes = lines.lines().map(|line| line.trim().parse::<u64>().ok());
    mebibytes.sum::<Option<u64>>().filter(|_| !lines.trim().is_empty()).map(|sum| sum << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tool_says_of_all_devices_is_added_up() {
        assert_eq!(sum_of("1024\n 512\n"), Some(1536 << 20));
        assert_eq!(sum_of("[N/A]\n"), None);
        assert_eq!(sum_of(""), None);
    }
}
