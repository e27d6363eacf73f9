//! A folder of files, for hosts.

use std::format;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use imlink_protocol::hex::Hex;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{Blob, BlobKind, BlobSink, BlobSource, Kept, Refusal, StorageError};

/// Blobs as files of a folder, both ways.
///
/// ```text
/// NAME                  a whole one
/// .NAME.HASH.part       one that is being received, by the first 16 digits of its hash; goes on after a restart
/// ```
///
/// Only the folder itself is read and written: names with a leading dot are refused.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    size_max: u32,
    receiving: Option<File>,
    sending: Option<File>,
}

impl Files {
    /// Files of `folder`, which exists; a blob to be kept there has at most `size_max` bytes.
    pub fn new(folder: impl Into<PathBuf>, size_max: u32) -> Self {
        Self { folder: folder.into(), size_max, receiving: None, sending: None }
    }

    fn part(&self, blob: &Blob) -> PathBuf {
        let hash = Hex(blob.sha256.get(..8).unwrap_or_default());
        self.folder.join(format!(".{}.{hash}.part", blob.name))
    }

    /// Removes what was begun of other versions of this name.
    async fn remove_others(&self, name: &str, kept: &Path) -> std::io::Result<()> {
        let mut entries = fs::read_dir(&self.folder).await?;
        let prefix = format!(".{name}.");
        while let Some(entry) = entries.next_entry().await? {
            let file = entry.file_name();
            let is_part = file.to_str().is_some_and(|file| file.starts_with(&prefix) && file.ends_with(".part"));
            if is_part && entry.path() != kept {
                fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }

    async fn open(&mut self, blob: &Blob) -> std::io::Result<u32> {
        let part = self.part(blob);
        self.remove_others(&blob.name, &part).await?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part).await?;
        let len = file.metadata().await?.len().min(blob.size.into());
        file.set_len(len).await?;
        self.receiving = Some(file);
        Ok(u32::try_from(len).unwrap_or(0))
    }
}

impl BlobSink for Files {
    async fn begin(&mut self, blob: &Blob) -> Result<u32, Refusal> {
        if blob.name.starts_with('.') {
            return Err(Refusal::Unsupported);
        }
        if blob.size > self.size_max {
            return Err(Refusal::TooLarge { max: self.size_max });
        }
        self.open(blob).await.map_err(|_| Refusal::Storage)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StorageError> {
        let file = self.receiving.as_mut().ok_or(StorageError)?;
        let write = async {
            file.seek(SeekFrom::Start(offset.into())).await?;
            file.write_all(bytes).await?;
            file.flush().await
        };
        write.await.map_err(|_| StorageError)
    }

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        read(self.receiving.as_mut(), offset, bytes).await
    }

    async fn finish(&mut self, blob: &Blob) -> Result<Kept, StorageError> {
        let file = self.receiving.take().ok_or(StorageError)?;
        let keep = async {
            file.sync_all().await?;
            fs::rename(self.part(blob), self.folder.join(blob.name.as_str())).await
        };
        keep.await.map_err(|_| StorageError)?;
        Ok(Kept::Stored)
    }

    async fn abort(&mut self, blob: &Blob) {
        self.receiving = None;
        // What stays is of a wrong hash, and found out again.
        let _ = fs::remove_file(self.part(blob)).await;
    }
}

impl BlobSource for Files {
    async fn find(&mut self, name: &str) -> Option<(BlobKind, u32)> {
        if name.starts_with('.') {
            return None;
        }
        let file = File::open(self.folder.join(name)).await.ok()?;
        let metadata = file.metadata().await.ok().filter(|metadata| metadata.is_file())?;
        self.sending = Some(file);
        Some((BlobKind::File, u32::try_from(metadata.len()).ok()?))
    }

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        read(self.sending.as_mut(), offset, bytes).await
    }
}

async fn read(file: Option<&mut File>, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
    let file = file.ok_or(StorageError)?;
    let read = async {
        file.seek(SeekFrom::Start(offset.into())).await?;
        file.read_exact(bytes).await
    };
    read.await.map(|_| ()).map_err(|_: std::io::Error| StorageError)
}
