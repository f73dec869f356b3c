//! A link as a QR code, drawn with characters.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Black on white, whatever the terminal's own colours are: cameras want dark on light.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16m\x1b[48;5;231m";
const OWN_COLOURS: &str = "\x1b[0m";

/// Draws `text`, with the quiet zone of four modules that readers need around it, two modules to a character.
///
/// In `colour` it is dark on light on every terminal; without, only where letters are darker than what is behind them.
/// `None` if the text is too long for any QR code.
pub fn draw(text: &str, colour: bool) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let drawn = code.render::<Dense1x2>().quiet_zone(true).build();
    if !colour {
        return Some(drawn);
    }

    let lines = drawn.lines();
    let lines = lines.map(|line| format!("{BLACK_ON_WHITE}{line}{OWN_COLOURS}"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}
