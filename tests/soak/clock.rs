//! The wall clock of one process, stepped without touching the machine's.
//!
//! A process asks for the time in its vDSO, a page of code that the kernel gives it. A write to
//! `/proc/PID/mem` gives the process a page of its own, as a debugger's breakpoint does. In it,
//! `__vdso_clock_gettime` becomes a few instructions that ask the kernel and add a number of seconds to
//! CLOCK_REALTIME; the number is behind them, so that a step is one more write. Nothing else on the
//! machine sees it: not the kernel (file times), not other processes, nor the hooks, which run other programs.
//!
//! Other ways do not work here. A time namespace moves the monotonic clocks alone, LD_PRELOAD does not reach a
//! static binary, and strace(1) does not see a call that makes no system call.

use std::fs::{File, OpenOptions, read_dir, read_to_string};
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;

use crate::pod::wait_until;

/// Machine code for x86-64; the kernel's interface is in the comments.
const CODE: [u8; 24] = [
    0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
    0x0f, 0x05, // syscall; the clock is in edi, the address of the answer in rsi
    0x85, 0xff, // test edi, edi; CLOCK_REALTIME is 0
    0x75, 10, // jne the ret
    0x48, 0x8b, 0x0d, 6, 0, 0, 0, // mov rcx, [what is behind this code]
    0x48, 0x01, 0x0e, // add [rsi], rcx; the seconds
    0xc3, // ret
    0x90, 0x90,
];

pub struct Clock {
    memory: File,
    /// Where the number of seconds is.
    seconds: u64,
}

impl Clock {
    /// Takes over the clock of a process; an error where that is not possible.
    pub fn of(process: Pid) -> Result<Self, String> {
        if !cfg!(target_arch = "x86_64") {
            return Err("there is machine code for x86-64 alone".to_owned());
        }
        let maps = read_to_string(format!("/proc/{process}/maps")).map_err(|error| error.to_string())?;
        let range = maps.lines().find(|line| line.ends_with("[vdso]")).ok_or("it has no vDSO")?;
        let range = range.split(' ').next().and_then(|range| range.split_once('-')).ok_or("a range")?;
        let [start, end] =
            [range.0, range.1].map(|number| u64::from_str_radix(number, 16).expect("an address"));
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{process}/mem"));
        let memory = memory.map_err(|error| format!("its memory cannot be opened: {error}"))?;
        let mut image = vec![0; (end - start) as usize];
        memory.read_exact_at(&mut image, start).map_err(|error| error.to_string())?;
        let code =
            start + symbol(&image, "__vdso_clock_gettime", CODE.len() + 8).ok_or("no such function")?;
        // A thread inside the function would go on in the middle of other instructions.
        wait_until("all threads are in system calls", || all_in_system_calls(process));
        let written = memory.write_all_at(&[&CODE[..], &[0; 8]].concat(), code);
        written.map_err(|error| format!("its memory cannot be written: {error}"))?;
        Ok(Self { memory, seconds: code + CODE.len() as u64 })
    }

    /// From now on, the process sees the true time and so many seconds.
    pub fn set(&self, seconds: i64) {
        self.memory.write_all_at(&seconds.to_le_bytes(), self.seconds).expect("a running helper");
    }
}

/// Whether each thread waits in the kernel.
fn all_in_system_calls(process: Pid) -> bool {
    let mut tasks = read_dir(format!("/proc/{process}/task")).expect("a running helper");
    tasks.all(|task| {
        let path = task.expect("a thread").path().join("syscall");
        read_to_string(path).is_ok_and(|text| text.starts_with(|first: char| first.is_ascii_digit()))
    })
}

/// Where a function of at least this length begins, in an ELF file.
fn symbol(image: &[u8], name: &str, length: usize) -> Option<u64> {
    let number = |at: usize, size: usize| {
        let bytes = image.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | *byte as usize))
    };
    let (sections, section_size, count) = (number(40, 8)?, number(58, 2)?, number(60, 2)?);
    let section = |index: usize| sections + index * section_size;
    const SHT_DYNSYM: usize = 11;
    let table = (0..count).map(section).find(|at| number(at + 4, 4) == Some(SHT_DYNSYM))?;
    let names = number(section(number(table + 40, 4)?) + 24, 8)?;
    let (start, size) = (number(table + 24, 8)?, number(table + 32, 8)?);
    let mut symbols = (start..start + size).step_by(24);
    let found = symbols.find(|at| {
        let text = number(*at, 4).and_then(|offset| image.get(names + offset..)).unwrap_or_default();
        text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    })?;
    (number(found + 16, 8)? >= length).then_some(number(found + 8, 8)? as u64)
}
