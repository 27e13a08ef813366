// SPDX-License-Identifier: Apache-2.0
//
// Storage: where encoded rows and the manifest live. The engine above sees this interface only; RocksDB
// stands behind one implementation, a sorted map behind the other (oracle and tests). Both pass
// storage_conformance*_test.cc.
#ifndef DAMO_STORAGE_STORAGE_H_
#define DAMO_STORAGE_STORAGE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/span.h"
#include "damo/base/status.h"

namespace damo {

// Where values of the manifest are written to.
class ManifestWriter {
 public:
  virtual ~ManifestWriter() = default;
  virtual Status PutManifest(std::string_view name, std::string_view value) = 0;
  virtual Status DeleteManifest(std::string_view name) = 0;  // OK if there is none
};

// Writes collected to be made at once. Keeps copies of what it is given. Thread-compatible.
class StorageBatch : public ManifestWriter {
 public:
  virtual Status PutRow(uint8_t group, uint64_t key, std::string_view row) = 0;
  virtual Status DeleteRow(uint8_t group, uint64_t key) = 0;
};

// Many rows written at once, in order, with the manifest values that belong to them. Streams: memory use does
// not grow with the number of rows. Thread-compatible. One that is not committed leaves nothing behind. Its
// manifest values may come in any order, before Commit(); of several of one name the last counts.
class SortedBatch : public ManifestWriter {
 public:
  // Both in strictly ascending order of (group, key) together, else Internal.
  virtual Status PutRow(uint8_t group, uint64_t key, std::string_view row) = 0;
  virtual Status DeleteRow(uint8_t group, uint64_t key) = 0;
  // Brings all of it to the disk, where nothing sees it yet: what may fail for want of room has then been
  // done. Commit() does it where it was not. Nothing is added afterwards.
  virtual Status Finish() = 0;
  // Makes all of it visible in one atomic step that survives loss of power, whatever the storage's
  // durability. Called once. On failure nothing is visible; if the disk failed while the step itself was
  // recorded, all of it may become visible later: with a later call that writes, or an opening. See
  // Storage::SettleCommit().
  virtual Status Commit() = 0;
};

// What a storage can tell of itself. Counters count from opening.
struct StorageStats {
  uint64_t disk_bytes = 0;          // rows, manifest and write-ahead log on disk; 0 in memory
  uint64_t block_cache_hits = 0;    // data blocks found in memory
  uint64_t block_cache_misses = 0;  // data blocks read from disk
  uint64_t block_cache_bytes = 0;   // in use now, memtables charged to it included
};

// Called with each row of a scan, in key order. The bytes are valid during the call only. A failure ends the
// scan and is returned by it.
using ScanVisitor = std::function<Status(uint64_t key, std::string_view row)>;

// Goes through the rows of one group in key order. Thread-compatible.
class RowCursor {
 public:
  virtual ~RowCursor() = default;

  // Moves to the next row, at first to the first one. False behind the last row and after a failure.
  virtual bool Next() = 0;
  // Of the row that Next() moved to; the bytes are valid until it is called again.
  virtual uint64_t key() const = 0;
  virtual std::string_view row() const = 0;
  // After Next() was false: why, if it was not the end.
  virtual Status status() const = 0;
};

// Called with each value of the manifest, by name. The bytes are valid during the call only.
using ManifestVisitor = std::function<Status(std::string_view name, std::string_view value)>;

// A storage as of one moment, whatever is written meanwhile; of the rows released (ReleaseRows()) some may be
// gone. While it stands, what it shows takes space on disk. Thread-safe. It must go before the storage is
// closed.
class StorageSnapshot {
 public:
  virtual ~StorageSnapshot() = default;

  // Before the first row of a group. The snapshot outlives it.
  std::unique_ptr<RowCursor> NewCursor(uint8_t group) const { return NewCursorFrom(group, 0); }
  // Before the first row whose key is not below `first_key`.
  virtual std::unique_ptr<RowCursor> NewCursorFrom(uint8_t group, uint64_t first_key) const = 0;

  // Visits every row of a group in key order. `visit` may call the storage.
  Status Scan(uint8_t group, const ScanVisitor& visit) const { return ScanFrom(group, 0, visit); }
  // Those with keys from `first_key` on.
  Status ScanFrom(uint8_t group, uint64_t first_key, const ScanVisitor& visit) const {
    const std::unique_ptr<RowCursor> cursor = NewCursorFrom(group, first_key);
    while (cursor->Next()) DAMO_RETURN_IF_ERROR(visit(cursor->key(), cursor->row()));
    return cursor->status();
  }

  // Visits every value of the manifest. `visit` may call the storage.
  virtual Status ScanManifest(const ManifestVisitor& visit) const = 0;
};

// Called now and then with the bytes that are done, and how many there will be, at most. A failure that it
// returns ends the call and is returned by it. Null: nobody asks.
using ByteProgress = std::function<Status(uint64_t num_bytes, uint64_t num_total)>;

// A file that storages are made of.
struct StorageFile {
  std::string name;  // in its directory
  uint64_t bytes = 0;
  std::optional<uint32_t> crc32c;  // where the bytes were at hand
};

// The files of a storage as of one moment, which stay until this goes. Thread-compatible. It must go before
// the storage is closed.
class StorageImage {
 public:
  virtual ~StorageImage() = default;

  // Makes a storage of them in `directory`, which is empty: hard links where the filesystem allows, else
  // copies. It survives loss of power when this returns. On failure some files may be there.
  virtual StatusOr<std::vector<StorageFile>> WriteTo(const std::string& directory,
                                                     const ByteProgress& progress) const = 0;
};

// Thread-safe. Writes of one batch become visible, and durable, all or none.
class Storage {
 public:
  // Called with the index of a key and its row, nullopt where there is none. The bytes are valid during the
  // call only. A failure stops the read and is returned by it.
  using RowVisitor = std::function<Status(size_t index, std::optional<std::string_view> row)>;

  virtual ~Storage() = default;

  // Reads the rows of `keys` as of one moment and visits them in the order of `keys`, which must be strictly
  // ascending, else nothing is visited. Only absence reads as nullopt; any other trouble fails, naming path,
  // group and number of keys (contract C7). `visit` may call the storage.
  virtual Status MultiGet(uint8_t group, Span<const uint64_t> keys, const RowVisitor& visit) const = 0;

  virtual StatusOr<std::unique_ptr<StorageSnapshot>> NewSnapshot() const = 0;

  // The files of the storage as it is. FailedPrecondition where it has none, or does not own them: in memory,
  // read-only.
  virtual StatusOr<std::unique_ptr<StorageImage>> NewImage() = 0;

  // A new storage in `directory`, which it makes, on the filesystem of this one: for a copy of some of its
  // rows. It takes little memory; closed, it survives loss of power. FailedPrecondition where this one has no
  // files.
  virtual StatusOr<std::unique_ptr<Storage>> NewStorageIn(const std::string& directory) const = 0;

  // Visits every row of a group in key order, as of one moment. `visit` may call the storage.
  Status Scan(uint8_t group, const ScanVisitor& visit) const {
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StorageSnapshot> snapshot, NewSnapshot());
    return snapshot->Scan(group, visit);
  }

  // A value of the manifest, nullopt where absent.
  virtual StatusOr<std::optional<std::string>> GetManifest(std::string_view name) const = 0;

  // An empty batch, to be filled and given to Write() of the same storage.
  virtual std::unique_ptr<StorageBatch> NewBatch() const = 0;

  // Makes the batch's writes in one atomic step, as durable as the storage was opened to be; of several
  // writes to one key the last counts. On failure none of them is visible.
  virtual Status Write(StorageBatch& batch) = 0;

  // An empty batch for rows in order. It may be filled while other calls run; one at a time. It must go
  // before the storage is closed.
  virtual StatusOr<std::unique_ptr<SortedBatch>> NewSortedBatch() = 0;

  // After the last Commit() has failed: whether its batch may be there all the same. Once this returns, all
  // of it or nothing is visible, for good and whatever happens to the process. Fails where the disk keeps
  // that from being found out; it may be called again.
  virtual StatusOr<bool> SettleCommit() { return false; }

  // Of a storage that was opened read-only: whether what it shows is what an opening would show now, as far
  // as sorted batches go. A writer beside it moves on, it does not. Others always are.
  virtual StatusOr<bool> UpToDate() const { return true; }

  // Returns when all that was written before is in its final files and survives power loss.
  virtual Status Flush() = 0;

  // Allows rows of a group whose last update was at `update_time` or earlier to go without a batch, at any
  // moment from now on: nobody will read them. Of snapshots, too. An earlier time than before changes
  // nothing. RocksDB drops them when it compacts the files they are in.
  virtual void ReleaseRows(uint8_t group, int64_t update_time) = 0;

  // Ends what ReleaseRows() has begun, for all groups: rows that are there when this returns stay. May wait
  // for compactions under way.
  virtual Status RevokeReleases() = 0;

  // Writes the files of groups' rows anew, so that what was deleted, written over or released takes no more
  // space. Takes as long as reading and writing all of these groups; other calls go on beside it.
  virtual Status Compact(Span<const uint8_t> groups, const ByteProgress& progress) = 0;

  // Called with a file and whether it is whole. A failure ends the work and is returned by it.
  using FileVisitor = std::function<Status(const std::string& name, const Status& outcome)>;

  // Reads the files of rows and manifest from end to end, checks every checksum in them and visits each.
  // Other calls go on beside it; files that are replaced meanwhile are passed over.
  virtual Status VerifyFiles(const FileVisitor& visit) const = 0;

  virtual StatusOr<StorageStats> Stats() const = 0;

  // Flushes and releases everything. Called once, by the owner, when no other call is running or will follow.
  virtual Status Close() = 0;
};

// What MultiGet demands of its keys. Checked always: a key that is passed over for being out of order would
// read as absent, and its row would be started anew.
inline Status CheckStrictlyAscending(Span<const uint64_t> keys) {
  for (size_t i = 1; i < keys.size(); ++i) {
    if (keys[i - 1] >= keys[i]) {
      return Internal("keys must be strictly ascending. Received: keys[", i - 1, "]=", keys[i - 1], ", keys[",
                      i, "]=", keys[i]);
    }
  }
  return Status();
}

}  // namespace damo

#endif  // DAMO_STORAGE_STORAGE_H_
