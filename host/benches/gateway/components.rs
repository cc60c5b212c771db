//! Variants of a built component: the same code with another digest, or with its functions repeated.

use anyhow::{Context, Result, ensure};

const MODULE: u8 = 1;
const FUNCTIONS: u8 = 3;
const CODE: u8 = 10;

/// Returns the component with a custom section: it behaves the same and has another digest.
pub(crate) fn variant(component: &[u8], number: usize) -> Vec<u8> {
    let mut note = Vec::new();
    let text = format!("variant {number}");
    write_leb("bench".len(), &mut note);
    note.extend_from_slice(b"bench");
    note.extend_from_slice(text.as_bytes());
    let mut bytes = component.to_vec();
    write_section(0, &note, &mut bytes);
    bytes
}

/// Returns the component with its functions repeated until it has at least `bytes` bytes. The copies are never called,
/// but they are real code that has to be compiled.
pub(crate) fn grown(component: &[u8], bytes: usize) -> Result<Vec<u8>> {
    let sections = sections(component)?;
    let largest =
        sections.iter().filter(|it| it.0 == MODULE).map(|it| it.1.len()).max().context("a component without code")?;
    let mut grown = component[..8].to_vec();
    for (id, content) in sections {
        if id == MODULE && content.len() == largest {
            write_section(id, &grown_module(content, bytes.saturating_sub(component.len()))?, &mut grown);
        } else {
            write_section(id, content, &mut grown);
        }
    }
    Ok(grown)
}

/// Functions appended at the end change no index, so their bodies can be copied unchanged.
fn grown_module(module: &[u8], more: usize) -> Result<Vec<u8>> {
    let sections = sections(module)?;
    let code = sections.iter().find(|it| it.0 == CODE).map(|it| it.1.len()).context("a module without code")?;
    let times = 1 + more.div_ceil(code);
    let mut grown = module[..8].to_vec();
    for (id, content) in sections {
        if id != FUNCTIONS && id != CODE {
            write_section(id, content, &mut grown);
            continue;
        }
        let (count, entries) = read_leb(content)?;
        let mut repeated = Vec::new();
        write_leb(count * times, &mut repeated);
        repeated.extend_from_slice(&entries.repeat(times));
        write_section(id, &repeated, &mut grown);
    }
    Ok(grown)
}

/// Returns the sections of a module or a component.
fn sections(bytes: &[u8]) -> Result<Vec<(u8, &[u8])>> {
    ensure!(bytes.starts_with(b"\0asm"), "not a WebAssembly file");
    let mut rest = bytes.get(8..).unwrap_or_default();
    let mut sections = Vec::new();
    while let Some((id, behind)) = rest.split_first() {
        let (size, content) = read_leb(behind)?;
        let (content, next) = content.split_at_checked(size).context("a section is cut off")?;
        sections.push((*id, content));
        rest = next;
    }
    Ok(sections)
}

fn read_leb(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[index + 1..]));
        }
    }
    anyhow::bail!("a number is cut off")
}

fn write_leb(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

fn write_section(id: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    write_leb(content.len(), out);
    out.extend_from_slice(content);
}
