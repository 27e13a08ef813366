// SPDX-License-Identifier: Apache-2.0
//
// RedoLog: an append-only log of opaque records in segment files, the memory of what has been applied to
// cached rows and not yet been written to the storage. docs/redo_format.md has it byte by byte.
#ifndef DAMO_REDO_REDO_LOG_H_
#define DAMO_REDO_REDO_LOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "damo/base/span.h"
#include "damo/base/status.h"

namespace damo {

class LogFileSystem;

// Thread-safe. Records are numbered without gaps by their log sequence number (LSN). Destruction closes the
// segments and deletes none. A segment that stands keeps a descriptor open.
class RedoLog {
 public:
  struct Options {
    std::string directory;                        // of the segments; made if absent
    uint64_t first_lsn = 0;                       // every record before it is in the rows
    uint64_t segment_bytes = uint64_t{64} << 20;  // a segment that has grown to this is followed by a new one
    LogFileSystem* file_system = nullptr;         // borrowed; null is LogFileSystem::Posix()
  };

  virtual ~RedoLog() = default;

  // Writes one record, the concatenation of `pieces`, in one go, and returns its LSN. When it returns the
  // record survives the death of the process. On failure nothing of the record remains, and a later call may
  // succeed (a full disk may have room again). Should what was written of it not be removable, the log has
  // failed: this and every later call of Append and Sync fails, saying so, until Renew() has succeeded.
  virtual StatusOr<uint64_t> Append(Span<const std::string_view> pieces) = 0;

  // Returns when every record before `lsn`, at most next_lsn(), survives loss of power. Calls that wait at
  // the same time share one fdatasync; Append does not wait for it. If the disk fails the log has failed, as
  // after an Append that cannot be taken back: the kernel may have dropped what it could not write, and would
  // not say so again.
  virtual Status Sync(uint64_t lsn) = 0;

  // Deletes every segment that holds no record at or after `lsn`, which is at most next_lsn(). A segment that
  // is being written is ended first if all its records are before `lsn`: Trim(next_lsn()) leaves none. After
  // a failure some may stand; a later call deletes them.
  virtual Status Trim(uint64_t lsn) = 0;

  // OK, or why the log has failed.
  virtual Status failure() const = 0;

  // Begins anew after a failure, without what stands, of which nobody knows what a reading would find. To be
  // called at a moment when no Append() runs and memory holds all that the records are about. Appends and
  // syncs `records`, those that are needed still, and calls `commit` with the LSN of the first of them, which
  // is to make the records before it needless, durably: to bring what they are about into the rows, and the
  // LSN with it. Then deletes all segments before it. Whoever waits in Sync() has then got what he waits for.
  //
  // If anything of it fails, the log has failed still, and it may be called again. Whatever instant it is cut
  // short at, the segments that stand read as before, or, as far as is wanted after `commit`, as they should.
  virtual Status Renew(Span<const std::string_view> records,
                       const std::function<Status(uint64_t first_lsn)>& commit) = 0;

  // LSN of the next record.
  virtual uint64_t next_lsn() const = 0;
  // Bytes in segments that stand.
  virtual uint64_t bytes() const = 0;
};

// Goes on with the log that an earlier process left in the directory, after its last record; without one the
// first record will be `first_lsn`. Reads it first, and fails as ReadRedoLog() does before anything is
// changed; then removes what is not part of it, so that it never comes back, and warns if records are among
// that, which the machine had no time to sync. The segments that stand are not appended to. Their records
// count as not synced.
//
// The visitor of a ReadRedoLog() that follows may call Trim() up to the record it is called with.
StatusOr<std::unique_ptr<RedoLog>> OpenRedoLog(const RedoLog::Options& options);

// Called with each record in order. A failure ends the reading and is returned by it.
using RedoVisitor = std::function<Status(uint64_t lsn, std::string_view record)>;

// Visits the records of the segments in `directory` from `first_lsn` on, and returns the LSN that follows the
// last one; `first_lsn` if there are none at or after it, or no directory. Changes nothing on disk. Takes
// memory for one segment at a time. Files whose names are not those of segments are passed over.
//
// What a dying process left half written at the end of the last segment is the end. DataLoss, naming file and
// offset: a bad record with a good one behind it that is at or after `first_lsn`, a segment that is missing
// between others, or a first segment that begins after `first_lsn`. If the machine has restarted since
// OpenRedoLog(), these too are the end, unless it is certain that the record had been synced.
// InvalidArgument: a format version of another release.
//
// `file_system` reads, and says on which boot this is; null is LogFileSystem::Posix().
StatusOr<uint64_t> ReadRedoLog(const std::string& directory, uint64_t first_lsn, const RedoVisitor& visit,
                               LogFileSystem* file_system = nullptr);

}  // namespace damo

#endif  // DAMO_REDO_REDO_LOG_H_
