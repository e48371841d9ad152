//! Uploads in parts, and the files that store their IDs.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use object_store::{MultipartId, multipart::MultipartStore, path::Path as Key};

use super::{failure::Answer, put_error::PutError};
use crate::linux::access::Access;

/// Size of a part in bytes. Stores require at least 5 MiB.
pub(super) const PART: u64 = 8 << 20;
/// Uploads a file in parts. Parts of an incomplete upload cost money until they are removed, so the
/// IDs of uploads are stored beside the file, and the next attempt removes the parts that a crash
/// or an outage left.
pub(super) async fn put_parts(
    store: &dyn MultipartStore,
    key: &Key,
    file: &Path,
    content: &mut File,
) -> Result<(), PutError> {
    let note = UploadIds::of(file);
    // Parts that cannot be removed must not delay the file.
    let mut left = abort(store, key, note.read()).await;
    let id = store.create_multipart(key).await?;
    left.push(id.clone());
    note.write(&left);
    let sent = send_parts(store, key, &id, content).await;
    if sent.is_ok() {
        left.pop();
    }
    // Tried again for parts that the store did not remove before, because the IDs are removed with
    // a delivered file.
    let left = abort(store, key, left).await;
    note.write(&left);
    if sent.is_ok() && !left.is_empty() {
        tracing::warn!(
            object = key.as_ref(),
            uploads = left.len(),
            mend = "allow s3:AbortMultipartUpload, or give the bucket a lifecycle rule that removes incomplete uploads",
            "parts of earlier uploads remain in the store and cost money"
        );
    }
    sent
}

/// Removes the parts of uploads. Returns the uploads that could not be removed.
async fn abort(
    store: &dyn MultipartStore,
    key: &Key,
    uploads: Vec<MultipartId>,
) -> Vec<MultipartId> {
    let mut left = Vec::new();
    for id in uploads {
        match store.abort_multipart(key, &id).await {
            Ok(()) => {}
            // The upload does not exist any more.
            Err(error) if Answer::of(&error).is_some_and(|answer| answer.status == 404) => {}
            Err(_) => left.push(id),
        }
    }
    left
}

async fn send_parts(
    store: &dyn MultipartStore,
    key: &Key,
    id: &MultipartId,
    content: &mut File,
) -> Result<(), PutError> {
    let mut sent = Vec::new();
    while let Some(part) = next_part(content)? {
        sent.push(store.put_part(key, id, sent.len(), part.into()).await?);
    }
    store.complete_multipart(key, id, sent).await?;
    Ok(())
}

/// Reads the next part of a file; `None` at its end.
pub(super) fn next_part(content: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut part = Vec::with_capacity(PART as usize);
    content.take(PART).read_to_end(&mut part)?;
    Ok((!part.is_empty()).then_some(part))
}

/// File with the IDs of a record file's uploads, one on each line. It is beside the record file,
/// under a name that readers ignore.
pub(super) struct UploadIds(PathBuf);

impl UploadIds {
    pub(super) fn of(file: &Path) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Self(file.with_file_name(format!(".{name}.upload")))
    }

    fn read(&self) -> Vec<MultipartId> {
        let noted = fs::read_to_string(&self.0).unwrap_or_default();
        noted.lines().filter(|id| !id.is_empty()).map(Into::into).collect()
    }

    /// Errors are ignored: on a full disk, delivering the file matters more than removing its
    /// parts.
    fn write(&self, uploads: &[MultipartId]) {
        if uploads.is_empty() {
            self.remove();
        } else {
            let _ = Access::PRIVATE
                .rewrite_file(&self.0)
                .and_then(|mut file| file.write_all(uploads.join("\n").as_bytes()));
        }
    }

    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.0);
    }
}
