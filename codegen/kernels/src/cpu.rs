//! The name of the CPU, which identifies measurements made on it.

/// Vendor, family and model of the present CPU, as in `GenuineIntel family 6 model 207`; `None` where they are not known.
#[cfg(target_arch = "x86_64")]
pub fn cpu_name() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    let first = __cpuid(0);
    let vendor: Vec<u8> = [first.ebx, first.edx, first.ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
    let vendor: String = vendor.iter().map(|&b| char::from(b)).filter(char::is_ascii_graphic).collect();
    let version = __cpuid(1).eax;
    let (base, low) = (version >> 8 & 15, version >> 4 & 15);
    let family = if base == 15 { base + (version >> 20 & 255) } else { base };
    let model = if base == 6 || base == 15 { low + (version >> 16 & 15) * 16 } else { low };
    Some(format!("{vendor} family {family} model {model}"))
}

/// Implementer and part of the present CPU, as in `0x41 part 0xd0c`; `None` if they are not known.
#[cfg(target_arch = "aarch64")]
pub fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    Some(format!("{} part {}", field("CPU implementer")?, field("CPU part")?))
}

/// `None`: the name of the present CPU is not known on this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn cpu_name() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_is_one_line_and_stays_the_same() {
        if let Some(name) = super::cpu_name() {
            assert!(!name.is_empty() && name.len() < 100 && !name.chars().any(char::is_control), "{name:?}");
            assert_eq!(super::cpu_name(), Some(name));
        }
    }
}
