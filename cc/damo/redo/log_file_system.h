// SPDX-License-Identifier: Apache-2.0
//
// LogFileSystem: the system calls by which a redo log changes and reads files, so that tests can make any one
// of them fail.
#ifndef DAMO_REDO_LOG_FILE_SYSTEM_H_
#define DAMO_REDO_LOG_FILE_SYSTEM_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <string>

namespace damo {

// Each method is the system call of its name: on failure it returns -1 and sets errno. Thread-safe.
class LogFileSystem {
 public:
  virtual ~LogFileSystem() = default;

  // Makes one directory; 0 if it stands already.
  virtual int MakeDirectory(const std::string& path) = 0;
  // A new file, open for appending: fails with EEXIST if there is one.
  virtual int Create(const std::string& path) = 0;
  // A file that stands, to be cut or synced.
  virtual int Open(const std::string& path) = 0;
  // One that stands, to be read from its beginning.
  virtual int OpenToRead(const std::string& path) = 0;
  virtual ssize_t Read(int fd, void* bytes, size_t size) = 0;
  // Writes at the end of the file. May write less than asked.
  virtual ssize_t WriteV(int fd, const iovec* parts, int num_parts) = 0;
  virtual int Truncate(int fd, off_t size) = 0;
  virtual int SyncData(int fd) = 0;
  virtual int Close(int fd) = 0;
  virtual int Unlink(const std::string& path) = 0;
  // Makes the names in a directory survive loss of power.
  virtual int SyncDirectory(const std::string& path) = 0;

  // Names the time since the machine's kernel was started: another one each time. Empty if unknown.
  virtual std::string BootId() = 0;

  // The machine's own; never destroyed.
  static LogFileSystem* Posix();
};

}  // namespace damo

#endif  // DAMO_REDO_LOG_FILE_SYSTEM_H_
