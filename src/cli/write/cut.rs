//! Cuts a file into batches of whole elements: lines, CSV rows behind their header, JSON objects, or messages behind a length.

use kymo_plugin_api::{Quotes, Quoting};
use std::io::{self, BufRead, Read};

/// An element longer than this is none: the file has another format.
const ELEMENT_BYTES_MAX: usize = 64 << 20;
/// A batch is sent at this size even if it has few elements.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// How a format's files are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// At newlines.
    Lines,
    /// At newlines that stand in no quotes; what heads the table goes before every batch, unless the columns are named elsewhere.
    Csv {
        /// Has the file a header?
        header: bool,
        /// How cells are quoted.
        quoting: Quoting,
    },
    /// Between values, or between the members of lists at the top.
    Json,
    /// Behind each message, whose length is a big-endian u32 before it.
    Messages,
}

impl Cut {
    /// What an element is called.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Csv { .. } => "rows",
            Self::Json => "objects",
            Self::Messages => "messages",
        }
    }
}

/// Some elements that are sent together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// As it is sent.
    pub body: Vec<u8>,
    /// Elements in it.
    pub elements: u64,
    /// Lines of `body` that were repeated from the head of the table.
    pub head_lines: u64,
    /// The line of the file at which it begins, from 1.
    pub first_line: u64,
}

/// The batches of a file.
pub struct Batches<R> {
    input: R,
    cut: Cut,
    elements_max: u64,
    /// Elements that are passed over.
    skip: u64,
    /// Lines of the file that were read.
    lines: u64,
    /// Lines that head a table, with their newlines.
    head: Vec<u8>,
    in_head: bool,
    /// Inside a list at the top of a JSON file.
    in_list: bool,
    /// An element that was read and belongs to the next batch.
    carried: Option<Vec<u8>>,
}

impl<R: BufRead> Batches<R> {
    /// Of at most so many elements each, without the first `skip`.
    pub fn new(input: R, cut: Cut, elements_max: u64, skip: u64) -> Self {
        Self {
            input,
            cut,
            elements_max: elements_max.max(1),
            skip,
            lines: 0,
            head: Vec::new(),
            in_head: matches!(cut, Cut::Csv { header: true, .. }),
            in_list: false,
            carried: None,
        }
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or is not of the format.
    pub fn next(&mut self) -> io::Result<Option<Batch>> {
        let mut batch = Batch::default();
        while batch.elements < self.elements_max && batch.body.len() < BATCH_BYTES_MAX {
            let (before, carried) = (self.lines, self.carried.take());
            let Some(element) = carried.map_or_else(|| self.element(), |element| Ok(Some(element)))? else {
                break;
            };
            if self.is_head(&element) {
                if batch.elements > 0 {
                    // Another table begins: what was read belongs to the one before.
                    self.carried = Some(element);
                    break;
                }
                self.take_head(&element);
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            if batch.elements == 0 {
                batch.first_line = before + 1;
                batch.head_lines = count_lines(&self.head);
                batch.body.extend_from_slice(&self.head);
            }
            batch.body.extend_from_slice(&element);
            batch.elements += 1;
        }
        Ok((batch.elements > 0).then_some(batch))
    }

    fn element(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.cut {
            Cut::Lines => self.row(None),
            Cut::Csv { quoting, .. } => self.row(Some(quoting)),
            Cut::Json => self.json(),
            Cut::Messages => self.message(),
        }
    }

    /// A line, or as many as it takes until all quotes are closed.
    fn row(&mut self, quoting: Option<Quoting>) -> io::Result<Option<Vec<u8>>> {
        let mut row = Vec::new();
        let mut quotes = quoting.map(Quotes::new);
        loop {
            let limit = (ELEMENT_BYTES_MAX - row.len().min(ELEMENT_BYTES_MAX)) as u64 + 1;
            let begin = row.len();
            let read = (&mut self.input).take(limit).read_until(b'\n', &mut row)?;
            self.lines += u64::from(read > 0);
            if row.len() > ELEMENT_BYTES_MAX {
                return Err(too_long(self.cut.unit()));
            }
            let is_whole = match &mut quotes {
                Some(quotes) => row[begin..].iter().fold(false, |_, byte| quotes.is_end(*byte)),
                None => true,
            };
            if read == 0 || is_whole {
                break;
            }
        }
        Ok((!row.is_empty()).then_some(row))
    }

    /// Does this row say what the following ones are? The first row does, and annotations with the row behind them.
    fn is_head(&self, row: &[u8]) -> bool {
        matches!(self.cut, Cut::Csv { header: true, .. })
            && (self.in_head || row.starts_with(b"#datatype") || row.starts_with(b"#group"))
    }

    fn take_head(&mut self, row: &[u8]) {
        if !self.in_head {
            self.head.clear();
        }
        self.head.extend_from_slice(row);
        if !row.ends_with(b"\n") {
            self.head.push(b'\n');
        }
        self.in_head = row.starts_with(b"#") || row.trim_ascii().is_empty();
    }

    fn json(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut element = Vec::new();
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let mut done = false;
            let mut used = 0;
            for &byte in bytes {
                used += 1;
                self.lines += u64::from(byte == b'\n');
                if in_string {
                    element.push(byte);
                    in_string = escaped || byte != b'"';
                    escaped = !escaped && byte == b'\\';
                    continue;
                }
                match byte {
                    b'[' if depth == 0 && element.is_empty() && !self.in_list => self.in_list = true,
                    b']' if depth == 0 && element.is_empty() => self.in_list = false,
                    b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => done = !element.is_empty(),
                    _ => {
                        element.push(byte);
                        match byte {
                            b'"' => in_string = true,
                            b'{' | b'[' => depth += 1,
                            b'}' | b']' => {
                                depth = depth.saturating_sub(1);
                                done = depth == 0;
                            }
                            _ => {}
                        }
                    }
                }
                if done {
                    break;
                }
            }
            self.input.consume(used);
            if done {
                break;
            }
            if element.len() > ELEMENT_BYTES_MAX {
                return Err(too_long(self.cut.unit()));
            }
        }
        if element.is_empty() {
            return Ok(None);
        }
        element.push(b'\n');
        Ok(Some(element))
    }

    fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut length = [0; 4];
        let cut_off = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => invalid("the last message is cut off"),
            _ => error,
        };
        self.input.read_exact(&mut length).map_err(cut_off)?;
        let bytes = u32::from_be_bytes(length) as usize;
        if bytes > ELEMENT_BYTES_MAX {
            return Err(too_long("messages (each behind its length, a big-endian u32)"));
        }
        let mut message = length.to_vec();
        message.resize(4 + bytes, 0);
        self.input.read_exact(&mut message[4..]).map_err(cut_off)?;
        Ok(Some(message))
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&b| b == b'\n').count() as u64
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn too_long(unit: &str) -> io::Error {
    invalid(&format!(
        "these are no {unit}: one would have more than {} MiB",
        ELEMENT_BYTES_MAX >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUOTING: Quoting = Quoting {
        delimiter: b',',
        quote: b'"',
    };
    const CSV: Cut = Cut::Csv {
        header: true,
        quoting: QUOTING,
    };

    fn cut(text: &[u8], cut: Cut, elements: u64, skip: u64) -> Vec<(String, u64, u64)> {
        // A small buffer: elements stretch over several.
        let mut batches = Batches::new(io::BufReader::with_capacity(3, text), cut, elements, skip);
        let mut out = Vec::new();
        while let Some(batch) = batches.next().expect("readable") {
            out.push((
                String::from_utf8_lossy(&batch.body).into_owned(),
                batch.elements,
                batch.first_line,
            ));
        }
        out
    }

    #[test]
    fn lines() {
        assert_eq!(
            cut(b"a\nb\nc", Cut::Lines, 2, 0),
            [("a\nb\n".into(), 2, 1), ("c".into(), 1, 3)]
        );
        assert_eq!(cut(b"a\nb\nc", Cut::Lines, 2, 2), [("c".into(), 1, 3)]);
        assert!(cut(b"", Cut::Lines, 2, 0).is_empty());
    }

    #[test]
    fn csv_repeats_its_header_and_keeps_quoted_newlines() {
        let text = b"a,time\n1,\"x\ny\"\n2,2\n3,3\n";
        let all = [
            ("a,time\n1,\"x\ny\"\n2,2\n".to_string(), 2, 2),
            ("a,time\n3,3\n".into(), 1, 5),
        ];
        assert_eq!(cut(text, CSV, 2, 0), all);
        assert_eq!(cut(text, CSV, 2, 2), all[1..]);
        let bare = Cut::Csv {
            header: false,
            quoting: QUOTING,
        };
        assert_eq!(
            cut(b"1,2\n3,4\n", bare, 1, 0),
            [("1,2\n".into(), 1, 1), ("3,4\n".into(), 1, 2)]
        );
        // A quote counts where a cell begins: here it opens none.
        let inches = b"a,b\n5\",1\n7\",\"x\ny\"\n";
        assert_eq!(
            cut(inches, CSV, 1, 0),
            [
                ("a,b\n5\",1\n".to_string(), 1, 2),
                ("a,b\n7\",\"x\ny\"\n".into(), 1, 3)
            ]
        );
        let annotated = b"#datatype,double\n#default,\n,v\n,1\n,2\n\n#datatype,long\n,w\n,3\n";
        let tables: Vec<String> = cut(annotated, CSV, 100, 0)
            .into_iter()
            .map(|(body, ..)| body)
            .collect();
        assert_eq!(
            tables,
            [
                "#datatype,double\n#default,\n,v\n,1\n,2\n\n",
                "#datatype,long\n,w\n,3\n"
            ]
        );
    }

    #[test]
    fn json_of_any_shape() {
        let objects = ["{\"a\":[1,{\"b\":\"}],\\\"\"}]}\n", "{\"c\": 2}\n"];
        let want: Vec<(String, u64)> = objects.iter().map(|o| (o.to_string(), 1)).collect();
        for text in [
            "[{\"a\":[1,{\"b\":\"}],\\\"\"}]} , {\"c\": 2}]",
            "{\"a\":[1,{\"b\":\"}],\\\"\"}]}\n{\"c\": 2}\n",
            "{\"a\":[1,{\"b\":\"}],\\\"\"}]}{\"c\": 2}",
            " [ {\"a\":[1,{\"b\":\"}],\\\"\"}]} ]\n[{\"c\": 2}] ",
        ] {
            let got: Vec<(String, u64)> = cut(text.as_bytes(), Cut::Json, 1, 0)
                .into_iter()
                .map(|(b, n, _)| (b, n))
                .collect();
            assert_eq!(got, want, "{text}");
        }
        assert_eq!(
            cut(b"nonsense {", Cut::Json, 9, 0),
            [("nonsense\n{\n".into(), 2, 1)]
        );
    }

    #[test]
    fn messages() {
        let text = [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 1, b'c'];
        let mut batches = Batches::new(&text[..], Cut::Messages, 2, 0);
        assert_eq!(batches.next().expect("readable").expect("one").body, text[..10]);
        assert_eq!(batches.next().expect("readable").expect("one").body, text[10..]);
        assert_eq!(batches.next().expect("readable"), None);
        let error = Batches::new(&text[..5], Cut::Messages, 2, 0)
            .next()
            .expect_err("cut off");
        assert_eq!(error.to_string(), "the last message is cut off");
        let error = Batches::new(&b"cpu v=1 1"[..], Cut::Messages, 2, 0)
            .next()
            .expect_err("too long");
        assert!(error.to_string().contains("no messages"), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_a_run_goes_on_where_another_stopped(
            rows in prop::collection::vec("[a-z]{0,5}", 0..40), size in 1..9u64, stop in 0..40u64
        ) {
            let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
            let all: String = cut(text.as_bytes(), Cut::Lines, size, 0).into_iter().map(|(body, ..)| body).collect();
            prop_assert_eq!(&all, &text);
            let rest: String = cut(text.as_bytes(), Cut::Lines, size, stop).into_iter().map(|(body, ..)| body).collect();
            let first: usize = rows.iter().take(stop as usize).map(|row| row.len() + 1).sum();
            prop_assert_eq!(&rest, &text[first..]);
        }
    }
}
