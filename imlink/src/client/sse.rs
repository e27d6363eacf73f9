//! Server-sent events, read from a byte stream.

/// Longest line that is kept, in bytes: an event's payload in base64 and what is around it.
const LINE_LEN_MAX: usize = 256 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its kind.
    pub(crate) event: String,
    /// Its position, empty when it has none.
    pub(crate) id: String,
    /// Its data.
    pub(crate) data: String,
}

/// Gathers bytes until events are whole.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    line: Vec<u8>,
    next: Frame,
}

/// A line that no event of imlink has.
#[derive(Debug, thiserror::Error)]
#[error("the stream has a line of more than {LINE_LEN_MAX} bytes")]
pub(crate) struct TooLong;

impl Frames {
    /// Takes `bytes` and gives each event that they complete to `each`.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Frame)) -> Result<(), TooLong> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len().saturating_add(part.len()) > LINE_LEN_MAX {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            if self.line.last() != Some(&b'\n') {
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).trim_end_matches(['\r', '\n']).to_owned();
            self.line.clear();
            if line.is_empty() {
                let frame = std::mem::take(&mut self.next);
                if !frame.data.is_empty() {
                    each(frame);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => self.next.event = value.into(),
                "id" => self.next.id = value.into(),
                "data" => self.next.data.push_str(value),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_their_bytes_are_cut() {
        let stream = b": hello\n\nevent: event\r\nid: p1\r\ndata: {\"a\":1}\r\n\r\nevent: end\ndata: x\n\n:\n\n";
        let whole = |step: usize| {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for bytes in stream.chunks(step) {
                frames.feed(bytes, |frame| found.push(frame)).unwrap();
            }
            found
        };
        let found = whole(stream.len());
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].event.as_str(), found[0].id.as_str(), found[0].data.as_str()),
            ("event", "p1", "{\"a\":1}")
        );
        for step in 1..stream.len() {
            assert_eq!(whole(step), found, "cut every {step}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut frames = Frames::default();
        assert!(frames.feed(&vec![b'x'; LINE_LEN_MAX], |_| {}).is_ok());
        assert!(frames.feed(b"x", |_| {}).is_err());
    }
}
