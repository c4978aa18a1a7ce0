//! Generates `include/procref.h` from the sources of procref-ffi.
//!
//! Without arguments, the program writes the header. With `--check`, it fails if the header would change.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = here.parent().ok_or("the crate has no parent directory")?;
    let file = library.join("include/procref.h");
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml"))?;
    let mut header = Vec::new();
    cbindgen::generate_with_config(library, config)?.write(&mut header);
    if env::args().nth(1).as_deref() != Some("--check") {
        fs::write(&file, header)?;
    } else if fs::read(&file)? != header {
        return Err(format!(
            "{} is not the header of the interface: run `cargo run --manifest-path {}/Cargo.toml`",
            file.display(),
            here.display()
        )
        .into());
    }
    Ok(())
}
