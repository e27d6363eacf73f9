//! QR codes: on the terminal, as SVG, as PNG.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;
use qrcode::render::{svg, unicode::Dense1x2};
use qrcode::{Color, EcLevel, QrCode};

/// Light modules around a code, as the standard asks.
const QUIET: usize = 4;
/// Pixels of a module in a PNG.
const SCALE: usize = 8;

/// `text` as a code.
pub(super) fn code(text: &str) -> anyhow::Result<QrCode> {
    QrCode::with_error_correction_level(text, EcLevel::L).context("that is too much for a QR code")
}

/// Lines to draw on a dark terminal.
pub(super) fn drawn(code: &QrCode) -> String {
    code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
}

/// Writes `path`, which ends in .svg or .png.
pub(super) fn write(code: &QrCode, path: &Path) -> anyhow::Result<()> {
    let problem = || format!("cannot write {}", path.display());
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => std::fs::write(path, code.render::<svg::Color<'_>>().build()).with_context(problem),
        Some("png") => {
            let (side, pixels) = pixels(code);
            let mut png = png::Encoder::new(BufWriter::new(File::create(path).with_context(problem)?), side, side);
            png.set_color(png::ColorType::Grayscale);
            png.set_depth(png::BitDepth::Eight);
            let mut writer = png.write_header().with_context(problem)?;
            writer.write_image_data(&pixels).with_context(problem)?;
            writer.finish().with_context(problem)
        }
        _ => anyhow::bail!("{} ends neither in .svg nor in .png", path.display()),
    }
}

/// Side in pixels, and a byte for each pixel.
fn pixels(code: &QrCode) -> (u32, Vec<u8>) {
    let width = code.width();
    let side = (width + 2 * QUIET) * SCALE;
    let mut pixels = vec![255; side * side];
    for (at, color) in code.to_colors().into_iter().enumerate().filter(|(_, color)| *color == Color::Dark) {
        debug_assert_eq!(color, Color::Dark);
        let (x, y) = ((at % width + QUIET) * SCALE, (at / width + QUIET) * SCALE);
        for row in y..y + SCALE {
            if let Some(dots) = pixels.get_mut(row * side + x..row * side + x + SCALE) {
                dots.fill(0);
            }
        }
    }
    // A code has at most 177 modules a side.
    (u32::try_from(side).unwrap_or(u32::MAX), pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_has_the_modules_of_the_code_and_a_quiet_zone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code.png");
        let code = code("imlink:lamp-17?tenant=-").unwrap();
        write(&code, &path).unwrap();
        let decoder = png::Decoder::new(std::io::BufReader::new(File::open(&path).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut image = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut image).unwrap();
        let side = (code.width() + 2 * QUIET) * SCALE;
        assert_eq!((info.width as usize, info.height as usize), (side, side));
        let module = |x: usize, y: usize| image[(y * SCALE + SCALE / 2) * side + x * SCALE + SCALE / 2] == 0;
        for y in 0..code.width() {
            for x in 0..code.width() {
                assert_eq!(module(x + QUIET, y + QUIET), code[(x, y)] == Color::Dark, "{x}, {y}");
            }
        }
        assert!((0..code.width() + 2 * QUIET).all(|x| !module(x, 0) && !module(0, x)));
    }

    #[test]
    fn an_unknown_ending_is_refused_by_name() {
        let error = write(&code("x").unwrap(), Path::new("/nonexistent/code.gif")).unwrap_err();
        assert!(error.to_string().contains(".svg"), "{error}");
    }
}
