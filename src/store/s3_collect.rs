//! What garbage collection does in a bucket: list, delete what was seen and nothing newer, hide, give uploads up.
//!
//! On a versioned bucket a deletion names the version that was seen, so that a blob that is written again meanwhile
//! survives. Without versions some milliseconds remain between the look and the deletion: the writer's last look
//! ([`crate::publish`]) covers them.

use async_trait::async_trait;
use aws_sdk_s3::types::{BucketVersioningStatus, DeleteMarkerEntry, ObjectVersion};
use aws_smithy_types::DateTime;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::collect::{
    Collect, Deletion, Listed, MANIFEST, StoredBlob, StoredManifest, Unfinished, digest, taken,
};
use super::s3::S3Store;
use super::timing::Timing;
use crate::aws::bucket::Operation;
use crate::aws::date::{AnswerDate, timestamp};
use crate::aws::status_and_code;
use crate::error::{Error, Meaning, Result};
use crate::model::Sha256;

const LIST: Operation = Operation { words: "list the blobs", action: "s3:ListBucket" };
const LIST_VERSIONS: Operation = Operation { words: "list the blobs", action: "s3:ListBucketVersions" };
const LOOK: Operation = Operation { words: "look for the blob", action: "s3:GetObject" };
const DELETE: Operation = Operation { words: "delete the blob", action: "s3:DeleteObject" };
const DELETE_VERSION: Operation = Operation { words: "delete the blob", action: "s3:DeleteObjectVersion" };
const CLOCK: Operation = Operation { words: "ask for the store's time", action: "s3:ListBucket" };
const VERSIONING: Operation =
    Operation { words: "see whether the bucket is versioned", action: "s3:GetBucketVersioning" };
const UPLOADS: Operation =
    Operation { words: "list unfinished uploads", action: "s3:ListBucketMultipartUploads" };
const ABORT: Operation = Operation { words: "give an upload up", action: "s3:AbortMultipartUpload" };
const READ_MANIFEST: Operation = Operation { words: "read what was condemned", action: "s3:GetObject" };
const WRITE_MANIFEST: Operation = Operation { words: "write what is condemned", action: "s3:PutObject" };

/// All versions of one key, newest first.
struct Versions {
    /// Ids of the versions with bytes.
    data: Vec<String>,
    /// Ids of the delete markers.
    markers: Vec<String>,
    /// Whether the newest is a delete marker.
    is_hidden: bool,
}

impl S3Store {
    /// One page of blobs and foreign names, and where the next begins.
    async fn page(&self, after: Option<String>) -> Result<(Vec<Listed>, Option<String>)> {
        let request = self.bucket.client.list_objects_v2().bucket(&self.bucket.name);
        let request = request.prefix(self.bucket.key("")).delimiter("/").set_continuation_token(after);
        let page = request.send().await.map_err(|error| self.bucket.error(LIST, "", &error))?;
        let mut found: Vec<Listed> = Vec::with_capacity(page.contents().len());
        for object in page.contents() {
            let etag = object.e_tag().unwrap_or_default();
            let (size, modified) = (object.size(), object.last_modified());
            found.extend(self.listed(object.key(), size, modified, |modified| unversioned(etag, modified)));
        }
        found.extend(page.common_prefixes().iter().filter_map(|prefix| self.foreign(prefix.prefix())));
        Ok((found, page.next_continuation_token().map(str::to_owned)))
    }

    /// The same where each blob's version matters. Delete markers and superseded versions are left out.
    async fn page_of_versions(&self, after: Option<Marker>) -> Result<(Vec<Listed>, Option<Marker>)> {
        let (key, version) = after.map_or((None, None), |marker| (Some(marker.key), marker.version));
        let request = self.bucket.client.list_object_versions().bucket(&self.bucket.name);
        let request = request.prefix(self.bucket.key("")).delimiter("/");
        let request = request.set_key_marker(key).set_version_id_marker(version);
        let page = request.send().await.map_err(|error| self.bucket.error(LIST_VERSIONS, "", &error))?;
        let mut found: Vec<Listed> = Vec::with_capacity(page.versions().len());
        for object in page.versions().iter().filter(|object| object.is_latest() == Some(true)) {
            let id = object.version_id().unwrap_or_default().to_owned();
            found.extend(self.listed(object.key(), object.size(), object.last_modified(), |_| id));
        }
        found.extend(page.common_prefixes().iter().filter_map(|prefix| self.foreign(prefix.prefix())));
        let next = page.next_key_marker().filter(|_| page.is_truncated() == Some(true)).map(|key| Marker {
            key: key.to_owned(),
            version: page.next_version_id_marker().map(str::to_owned),
        });
        Ok((found, next))
    }

    fn listed(
        &self,
        key: Option<&str>,
        size: Option<i64>,
        modified: Option<&DateTime>,
        revision: impl FnOnce(Timestamp) -> String,
    ) -> Option<Listed> {
        let name = key?.strip_prefix(&self.bucket.key(""))?;
        let (Some(sha256), Some(modified)) = (digest(name), modified.and_then(timestamp)) else {
            return self.foreign(key);
        };
        let size = size.and_then(|size| size.try_into().ok()).unwrap_or(0);
        Some(Listed::Blob(StoredBlob { sha256, size, modified, revision: revision(modified) }))
    }

    fn foreign(&self, key: Option<&str>) -> Option<Listed> {
        let name = key?.strip_prefix(&self.bucket.key(""))?;
        let ours = name.is_empty() || MANIFEST.split_inclusive('/').next() == Some(name);
        (!ours).then(|| Listed::Foreign(name.to_owned()))
    }

    /// All versions of the key of one blob.
    async fn versions_of(&self, sha256: &Sha256) -> Result<Versions> {
        let key = self.bucket.key(&sha256.to_string());
        let mut found: Vec<(Option<Timestamp>, bool, bool, String)> = Vec::new();
        let mut after: Option<Marker> = None;
        loop {
            let (key_marker, version) =
                after.map_or((None, None), |marker| (Some(marker.key), marker.version));
            let request = self.bucket.client.list_object_versions().bucket(&self.bucket.name).prefix(&key);
            let request = request.set_key_marker(key_marker).set_version_id_marker(version);
            let page = request.send().await;
            let page = page.map_err(|error| self.bucket.error(LIST_VERSIONS, &sha256.to_string(), &error))?;
            let of_key = |object: &&ObjectVersion| object.key() == Some(&key);
            let data = page.versions().iter().filter(of_key).map(|object| {
                let id = object.version_id().unwrap_or_default().to_owned();
                (object.last_modified().and_then(timestamp), object.is_latest() == Some(true), false, id)
            });
            let of_key = |marker: &&DeleteMarkerEntry| marker.key() == Some(&key);
            let markers = page.delete_markers().iter().filter(of_key).map(|marker| {
                let id = marker.version_id().unwrap_or_default().to_owned();
                (marker.last_modified().and_then(timestamp), marker.is_latest() == Some(true), true, id)
            });
            found.extend(data.chain(markers));
            match page.next_key_marker().filter(|_| page.is_truncated() == Some(true)) {
                Some(next) => {
                    let version = page.next_version_id_marker().map(str::to_owned);
                    after = Some(Marker { key: next.to_owned(), version });
                }
                None => break,
            }
        }
        // Dates are in whole seconds, so only the newest is told apart for sure; among the others the order is the server's.
        found.sort_by_key(|(modified, is_latest, ..)| std::cmp::Reverse((*is_latest, *modified)));
        let is_hidden = found.first().is_some_and(|(_, is_latest, is_marker, _)| *is_latest && *is_marker);
        let ids = |markers: bool| {
            let of_kind = found.iter().filter(move |(_, _, is_marker, _)| *is_marker == markers);
            of_kind.map(|(.., id)| id.clone()).collect()
        };
        Ok(Versions { data: ids(false), markers: ids(true), is_hidden })
    }

    async fn delete_version(&self, sha256: &Sha256, id: &str) -> Result<()> {
        let key = sha256.to_string();
        let request = self.bucket.client.delete_object().bucket(&self.bucket.name).key(self.bucket.key(&key));
        match request.version_id(id).send().await {
            Ok(_) => Ok(()),
            Err(error) if status_and_code(&error).0 == Some(404) => Ok(()),
            Err(error) => Err(self.bucket.error(DELETE_VERSION, &key, &error)),
        }
    }

    /// Deletes the version that was seen and all older ones, oldest first: what is left after an interruption then still
    /// is the newest.
    async fn delete_versions(&self, blob: &StoredBlob, versions: &Versions) -> Result<()> {
        let Some(seen) = versions.data.iter().position(|id| *id == blob.revision) else { return Ok(()) };
        for id in versions.data[seen..].iter().rev() {
            self.delete_version(&blob.sha256, id).await?;
        }
        Ok(())
    }

    /// Deletes whatever is newest by a plain DELETE: on a versioned bucket that only hides it.
    async fn delete_newest(&self, sha256: &Sha256) -> Result<()> {
        let key = sha256.to_string();
        let request = self.bucket.client.delete_object().bucket(&self.bucket.name).key(self.bucket.key(&key));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if status_and_code(&error).0 == Some(404) => Ok(()),
            Err(error) => Err(self.bucket.error(DELETE, &key, &error)),
        }
    }
}

/// Where a listing of versions goes on.
struct Marker {
    key: String,
    version: Option<String>,
}

/// The revision of a blob without versions. Equal bytes have one `ETag`, so the time is part of it; seconds, since HEAD
/// tells no more.
fn unversioned(etag: &str, modified: Timestamp) -> String {
    format!("{} {etag}", modified.as_second())
}

/// Where a paged listing is.
enum Page {
    First,
    Objects(String),
    Versions(Marker),
    End,
}

#[async_trait]
impl Collect for S3Store {
    fn place(&self) -> String {
        self.location.to_string()
    }

    fn timing(&self) -> Timing {
        Timing::new(self.location.grace)
    }

    fn is_create_only(&self) -> bool {
        self.location.create_only
    }

    async fn is_versioned(&self) -> Result<bool> {
        let ask = || async {
            let request = self.bucket.client.get_bucket_versioning().bucket(&self.bucket.name);
            match request.send().await {
                // While versioning is suspended, writes replace each other as if there was none.
                Ok(answer) => Ok(answer.status() == Some(&BucketVersioningStatus::Enabled)),
                // A server without versions.
                Err(error)
                    if matches!(
                        status_and_code(&error),
                        (Some(501), _) | (_, Some("VersioningNotConfigured"))
                    ) =>
                {
                    Ok(false)
                }
                Err(error) => Err(self.bucket.error(VERSIONING, "", &error)),
            }
        };
        self.versioned.get_or_try_init(ask).await.copied()
    }

    async fn now(&self) -> Result<Timestamp> {
        let date = AnswerDate::default();
        let request = self.bucket.client.head_bucket().bucket(&self.bucket.name).customize();
        if let Err(error) = request.interceptor(date.clone()).send().await {
            if status_and_code(&error).0 == Some(404) {
                self.bucket.check(CLOCK.words).await?;
            }
            return Err(self.bucket.error(CLOCK, "", &error));
        }
        date.get().ok_or_else(|| {
            let error = Error::new(Meaning::Other, CLOCK.words).with_key(self.bucket.uri(""));
            error.with_source("the server's answer has no Date")
        })
    }

    fn list(&self) -> BoxStream<'_, Result<Listed>> {
        let pages = stream::try_unfold(Page::First, move |page| async move {
            let page = match page {
                Page::First if self.is_versioned().await? => {
                    let (found, next) = self.page_of_versions(None).await?;
                    (found, next.map(Page::Versions))
                }
                Page::First => {
                    let (found, next) = self.page(None).await?;
                    (found, next.map(Page::Objects))
                }
                Page::Objects(after) => {
                    let (found, next) = self.page(Some(after)).await?;
                    (found, next.map(Page::Objects))
                }
                Page::Versions(after) => {
                    let (found, next) = self.page_of_versions(Some(after)).await?;
                    (found, next.map(Page::Versions))
                }
                Page::End => return Ok::<_, Error>(None),
            };
            let (found, next) = page;
            Ok(Some((stream::iter(found.into_iter().map(Ok)), next.unwrap_or(Page::End))))
        });
        pages.try_flatten().boxed()
    }

    async fn delete(&self, blob: &StoredBlob) -> Result<Deletion> {
        if self.is_versioned().await? {
            let versions = self.versions_of(&blob.sha256).await?;
            if versions.is_hidden || versions.data.is_empty() {
                return Ok(Deletion::Absent);
            }
            if versions.data.first() != Some(&blob.revision) {
                return Ok(Deletion::Changed);
            }
            self.delete_versions(blob, &versions).await?;
            return Ok(Deletion::Done);
        }
        let key = blob.sha256.to_string();
        let request = self.bucket.client.head_object().bucket(&self.bucket.name).key(self.bucket.key(&key));
        let head = match request.send().await {
            Ok(head) => head,
            Err(error) if status_and_code(&error).0 == Some(404) => return Ok(Deletion::Absent),
            Err(error) => return Err(self.bucket.error(LOOK, &key, &error)),
        };
        let modified = head.last_modified().and_then(timestamp);
        let found = modified.map(|modified| unversioned(head.e_tag().unwrap_or_default(), modified));
        if found.as_ref() != Some(&blob.revision) {
            return Ok(Deletion::Changed);
        }
        self.delete_newest(&blob.sha256).await?;
        Ok(Deletion::Done)
    }

    async fn hide(&self, blob: &StoredBlob) -> Result<Deletion> {
        let versions = self.versions_of(&blob.sha256).await?;
        if versions.data.is_empty() {
            return Ok(Deletion::Absent);
        }
        if versions.data.first() != Some(&blob.revision) {
            return Ok(Deletion::Changed);
        }
        if !versions.is_hidden {
            self.delete_newest(&blob.sha256).await?;
        }
        Ok(Deletion::Done)
    }

    async fn restore(&self, blob: &StoredBlob) -> Result<()> {
        let versions = self.versions_of(&blob.sha256).await?;
        if versions.is_hidden {
            // Newest last, so that the blob appears in one step.
            for id in versions.markers.iter().rev() {
                self.delete_version(&blob.sha256, id).await?;
            }
        }
        Ok(())
    }

    async fn purge(&self, blob: &StoredBlob) -> Result<()> {
        let versions = self.versions_of(&blob.sha256).await?;
        if !versions.is_hidden {
            // Shown again since it was planned.
            return Ok(());
        }
        self.delete_versions(blob, &versions).await?;
        for id in versions.markers.iter().rev() {
            self.delete_version(&blob.sha256, id).await?;
        }
        Ok(())
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        let mut found = Vec::new();
        let mut after: (Option<String>, Option<String>) = (None, None);
        loop {
            let request = self.bucket.client.list_multipart_uploads().bucket(&self.bucket.name);
            let request = request.prefix(self.bucket.key("")).set_key_marker(after.0);
            let page = request.set_upload_id_marker(after.1).send().await;
            let page = page.map_err(|error| self.bucket.error(UPLOADS, "", &error))?;
            for upload in page.uploads() {
                let name = upload.key().and_then(|key| key.strip_prefix(&self.bucket.key("")));
                let (Some(name), Some(id)) = (name, upload.upload_id()) else { continue };
                // Somebody else's uploads are somebody else's business.
                let (Some(_), Some(since)) = (digest(name), upload.initiated().and_then(timestamp)) else {
                    continue;
                };
                let name = format!("{name} {id}");
                found.push(Unfinished { name, since, size: None, abandoned: false });
            }
            if page.is_truncated() != Some(true) || page.next_key_marker().is_none() {
                return Ok(found);
            }
            after =
                (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
        }
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<bool> {
        let Some((key, id)) = unfinished.name.split_once(' ') else { return Ok(false) };
        let request = self.bucket.client.abort_multipart_upload().bucket(&self.bucket.name);
        match request.key(self.bucket.key(key)).upload_id(id).send().await {
            Ok(_) => Ok(true),
            Err(error) if status_and_code(&error).0 == Some(404) => Ok(false),
            Err(error) => Err(self.bucket.error(ABORT, key, &error)),
        }
    }

    async fn read_manifest(&self) -> Result<Option<StoredManifest>> {
        let request =
            self.bucket.client.get_object().bucket(&self.bucket.name).key(self.bucket.key(MANIFEST));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if matches!(status_and_code(&error), (Some(404), code) if code != Some("NoSuchBucket")) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(self.bucket.error(READ_MANIFEST, MANIFEST, &error)),
        };
        let revision = answer.e_tag().unwrap_or_default().to_owned();
        let body = answer.body.collect().await.map_err(|error| {
            let broken =
                Error::new(Meaning::Unavailable, READ_MANIFEST.words).with_key(self.bucket.uri(MANIFEST));
            broken.with_source(error)
        })?;
        Ok(Some(StoredManifest { bytes: body.into_bytes(), revision }))
    }

    async fn write_manifest(&self, bytes: Bytes, seen: Option<&str>) -> Result<String> {
        let request =
            self.bucket.client.put_object().bucket(&self.bucket.name).key(self.bucket.key(MANIFEST));
        let request = request.content_type("application/json").body(bytes.clone().into());
        let request = match seen {
            Some(revision) => request.if_match(revision),
            None => request.if_none_match("*"),
        };
        match request.send().await {
            Ok(written) => Ok(written.e_tag().unwrap_or_default().to_owned()),
            Err(error) if matches!(status_and_code(&error).0, Some(404 | 409 | 412)) => {
                // A repeated request meets its own first attempt, whose reply was lost.
                match self.read_manifest().await? {
                    Some(there) if there.bytes == bytes => Ok(there.revision),
                    _ => Err(taken(&self.bucket.uri(MANIFEST))),
                }
            }
            Err(error) => Err(self.bucket.error(WRITE_MANIFEST, MANIFEST, &error)),
        }
    }
}
