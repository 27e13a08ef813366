// SPDX-License-Identifier: Apache-2.0
//
// The directory of a store, before and while a store is made in it. Knows names of files only, no RocksDB.
#ifndef DAMO_STORAGE_DIRECTORY_H_
#define DAMO_STORAGE_DIRECTORY_H_

#include <cstdint>
#include <string>

#include "damo/base/status.h"

namespace damo {

// Folders of a store beside its database, absent while they have nothing to hold.
inline constexpr char kIngestFolder[] = "ingest";  // files of sorted batches that are not committed yet
inline constexpr char kRedoFolder[] = "redo";      // segments of the engine's redo log

// The file by which a directory is known as a checkpoint; what is in it is the engine's affair. Beside it
// lies the database of a whole store, or, of what has changed since another checkpoint, a folder with one.
inline constexpr char kCheckpointFile[] = "DAMO_CHECKPOINT";

enum class DirectoryContent {
  kAbsent,      // there is no such directory
  kNothing,     // it is empty
  kUnfinished,  // a store was being made when its process ended
  kDatabase,    // a RocksDB database, damo's or another's
};

// Fails for a path that is no directory, and for a directory that holds files but none of the above: a
// checkpoint that holds changes only, for one.
StatusOr<DirectoryContent> InspectDirectory(const std::string& directory);

// Creates the directory, parents included, if absent, and marks it as unfinished, so that a store whose
// making was cut short is told from a database of someone else's and can be taken up again. Survives power
// loss. Returns whether this call made the mark: else another process may be at it.
StatusOr<bool> BeginCreation(const std::string& directory);

// Removes the mark: the store is complete.
Status EndCreation(const std::string& directory);

bool HasCheckpoint(const std::string& directory);

// The path without symbolic links and dots; the end of it need not exist.
StatusOr<std::string> ResolvePath(const std::string& path);

// InvalidArgument if what is made at `path`, a file or a directory, would lie inside `store_directory`, a
// canonical path: what a store keeps and removes there, and what others write, must not meet.
Status CheckOutsideStore(const std::string& path, const std::string& store_directory);

// Creates a directory, parents included, unless it stands. Survives loss of power.
Status CreateDirectories(const std::string& directory);

// The directory that a path names something in: "." for a bare name.
std::string ParentOf(const std::string& path);

// Makes the names in a directory survive loss of power.
Status SyncDirectory(const std::string& directory);

// Changes whenever the record of which files the database consists of has been written.
StatusOr<std::string> DatabaseState(const std::string& directory);

// Bytes of the table files and write-ahead logs in it, and of all files in the folders above.
StatusOr<uint64_t> DatabaseBytes(const std::string& directory);

}  // namespace damo

#endif  // DAMO_STORAGE_DIRECTORY_H_
