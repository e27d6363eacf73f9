//! A range of NOR flash that holds one image.

use core::ops::Range;

use embedded_storage_async::nor_flash::NorFlash;

use super::{Blob, BlobKind, BlobSink, BlobSource, Kept, Refusal, StorageError};

/// One blob in a range of flash: an image to be booted, or a file to be fetched.
///
/// ```text
/// first pages    the blob, from its first byte on
/// last page      0    header: "IMBL", kind, length, hash       one record, padded to whole words
///                     one word for each page that is written, 0 when it is
///                     one word: 0 when the hash was checked
///                     one word: 0 when it is to be booted
/// ```
///
/// A page is written, then its word; after a power loss the transfer goes on with the first page whose word is not.
/// A bootloader that finds the last two words 0 has a whole, checked, signed image in front of it.
pub struct Partition<F> {
    flash: F,
    range: Range<u32>,
    name: &'static str,
}

/// What a [`Partition`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Image {
    /// Its length in bytes.
    pub size: u32,
    /// Its hash.
    pub sha256: [u8; 32],
    /// It is all there and its hash was checked.
    pub is_verified: bool,
    /// It is to be booted next.
    pub is_marked: bool,
}

/// A range cannot be a partition: it is not made of whole pages, of less than two, or a page is too small for the
/// records of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PartitionError;

impl core::fmt::Display for PartitionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a partition has two pages or more, whole ones, and room in one of them for a word for each")
    }
}

impl core::error::Error for PartitionError {}

/// Longest word of flash that is written at once, in bytes.
const WORD_MAX: usize = 32;
/// Bytes of the header before padding; a whole number of words for every word up to [`WORD_MAX`].
const HEADER_LEN: usize = 64;
const MAGIC: [u8; 4] = *b"IMBL";

/// What is written from; some flash wants it aligned.
#[repr(align(32))]
struct Aligned<const LEN: usize>([u8; LEN]);

impl<F: NorFlash> Partition<F> {
    const PAGE: u32 = F::ERASE_SIZE as u32;
    const WORD: u32 = F::WRITE_SIZE as u32;
    const FITS: () = assert!(F::WRITE_SIZE <= WORD_MAX && HEADER_LEN.is_multiple_of(F::WRITE_SIZE));

    /// The partition in `range` of `flash`, whose blob can be fetched as `name`.
    pub fn new(flash: F, range: Range<u32>, name: &'static str) -> Result<Self, PartitionError> {
        let () = Self::FITS;
        let len = range.end.checked_sub(range.start).ok_or(PartitionError)?;
        let is_whole = range.start.is_multiple_of(Self::PAGE) && len.is_multiple_of(Self::PAGE);
        let pages = len / Self::PAGE;
        let records = u64::from(pages) + 1;
        let is_small = HEADER_LEN as u64 + records * u64::from(Self::WORD) <= u64::from(Self::PAGE);
        if is_whole && pages >= 2 && is_small { Ok(Self { flash, range, name }) } else { Err(PartitionError) }
    }

    /// Largest blob, in bytes.
    pub fn capacity(&self) -> u32 {
        self.range.end - self.range.start - Self::PAGE
    }

    /// What it holds; `None` for nothing.
    pub async fn image(&mut self) -> Result<Option<Image>, StorageError> {
        let mut header = Aligned([0; HEADER_LEN]);
        self.flash.read(self.journal(), &mut header.0).await.map_err(|_| StorageError)?;
        let Some((size, sha256)) = read_header(&header.0).filter(|(size, _)| *size <= self.capacity()) else {
            return Ok(None);
        };
        let pages = self.pages();
        let is_verified = self.is_set(pages).await?;
        let is_marked = self.is_set(pages + 1).await?;
        Ok(Some(Image { size, sha256, is_verified, is_marked }))
    }

    /// The flash.
    pub fn into_inner(self) -> F {
        self.flash
    }

    fn pages(&self) -> u32 {
        self.capacity() / Self::PAGE
    }

    fn journal(&self) -> u32 {
        self.range.end - Self::PAGE
    }

    fn word_at(&self, index: u32) -> u32 {
        self.journal() + HEADER_LEN as u32 + index * Self::WORD
    }

    async fn is_set(&mut self, index: u32) -> Result<bool, StorageError> {
        let mut word = Aligned([0xff; WORD_MAX]);
        let word = word.0.get_mut(..F::WRITE_SIZE).ok_or(StorageError)?;
        self.flash.read(self.word_at(index), word).await.map_err(|_| StorageError)?;
        Ok(word.iter().all(|byte| *byte == 0))
    }

    async fn set(&mut self, index: u32) -> Result<(), StorageError> {
        let word = Aligned([0; WORD_MAX]);
        let word = word.0.get(..F::WRITE_SIZE).ok_or(StorageError)?;
        self.flash.write(self.word_at(index), word).await.map_err(|_| StorageError)
    }

    /// Bytes of whole pages that are written from the first one on.
    async fn written(&mut self) -> Result<u32, StorageError> {
        let pages = self.pages();
        for page in 0..pages {
            if !self.is_set(page).await? {
                return Ok(page * Self::PAGE);
            }
        }
        Ok(pages * Self::PAGE)
    }

    async fn start(&mut self, blob: &Blob) -> Result<(), StorageError> {
        let (journal, end) = (self.journal(), self.range.end);
        self.flash.erase(journal, end).await.map_err(|_| StorageError)?;
        let header = Aligned(header(blob));
        self.flash.write(journal, &header.0).await.map_err(|_| StorageError)
    }

    /// Writes within one page, in whole words; the last one is padded.
    async fn write_words(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StorageError> {
        let at = self.range.start + offset;
        let whole = bytes.len() - bytes.len() % F::WRITE_SIZE;
        let (words, rest) = bytes.split_at_checked(whole).ok_or(StorageError)?;
        self.flash.write(at, words).await.map_err(|_| StorageError)?;
        if rest.is_empty() {
            return Ok(());
        }
        let mut last = Aligned([0xff; WORD_MAX]);
        last.0.get_mut(..rest.len()).ok_or(StorageError)?.copy_from_slice(rest);
        let last = last.0.get(..F::WRITE_SIZE).ok_or(StorageError)?;
        self.flash.write(at + whole as u32, last).await.map_err(|_| StorageError)
    }
}

impl<F: NorFlash> BlobSink for Partition<F> {
    async fn begin(&mut self, blob: &Blob) -> Result<u32, Refusal> {
        let max = self.capacity();
        if blob.size > max {
            return Err(Refusal::TooLarge { max });
        }
        let image = self.image().await.map_err(|_| Refusal::Storage)?;
        if let Some(image) = image.filter(|image| image.size == blob.size && image.sha256 == blob.sha256) {
            // Nothing of a whole image is written again: it may be what is booted next.
            if image.is_verified {
                return Ok(image.size);
            }
            let written = self.written().await.map_err(|_| Refusal::Storage)?;
            return Ok(written.min(blob.size));
        }
        self.start(blob).await.map_err(|_| Refusal::Storage)?;
        Ok(0)
    }

    async fn write(&mut self, mut offset: u32, mut bytes: &[u8]) -> Result<(), StorageError> {
        let end = u32::try_from(bytes.len()).ok().and_then(|len| offset.checked_add(len)).ok_or(StorageError)?;
        if end > self.capacity() {
            return Err(StorageError);
        }
        while !bytes.is_empty() {
            let page = offset / Self::PAGE;
            let left = (Self::PAGE - offset % Self::PAGE) as usize;
            let (part, rest) = bytes.split_at_checked(left.min(bytes.len())).ok_or(StorageError)?;
            if offset.is_multiple_of(Self::PAGE) {
                let start = self.range.start + offset;
                self.flash.erase(start, start + Self::PAGE).await.map_err(|_| StorageError)?;
            }
            self.write_words(offset, part).await?;
            if part.len() == left {
                self.set(page).await?;
            }
            offset += part.len() as u32;
            bytes = rest;
        }
        Ok(())
    }

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        let end = u32::try_from(bytes.len()).ok().and_then(|len| offset.checked_add(len)).ok_or(StorageError)?;
        if end > self.capacity() {
            return Err(StorageError);
        }
        self.flash.read(self.range.start + offset, bytes).await.map_err(|_| StorageError)
    }

    async fn finish(&mut self, blob: &Blob) -> Result<Kept, StorageError> {
        let pages = self.pages();
        if !self.is_set(pages).await? {
            self.set(pages).await?;
        }
        if blob.kind != BlobKind::Firmware {
            return Ok(Kept::Stored);
        }
        if !self.is_set(pages + 1).await? {
            self.set(pages + 1).await?;
        }
        Ok(Kept::Marked)
    }

    async fn abort(&mut self, _: &Blob) {
        let (journal, end) = (self.journal(), self.range.end);
        // A journal that cannot be erased is found wrong again, by the hash.
        let _ = self.flash.erase(journal, end).await;
    }
}

impl<F: NorFlash> BlobSource for Partition<F> {
    async fn find(&mut self, name: &str) -> Option<(BlobKind, u32)> {
        let image = self.image().await.ok()??;
        (name == self.name && image.is_verified).then_some((BlobKind::File, image.size))
    }

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        BlobSink::read(self, offset, bytes).await
    }
}

fn header(blob: &Blob) -> [u8; HEADER_LEN] {
    let mut header = [0xff; HEADER_LEN];
    let size = blob.size.to_le_bytes();
    let parts: [&[u8]; 4] = [&MAGIC, &[blob.kind as u8, 0, 0, 0], &size, &blob.sha256];
    for (to, from) in header.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    header
}

fn read_header(header: &[u8; HEADER_LEN]) -> Option<(u32, [u8; 32])> {
    let rest = header.strip_prefix(&MAGIC)?.get(4..)?;
    let (size, rest) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*size), *rest.first_chunk()?))
}
