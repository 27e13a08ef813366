// SPDX-License-Identifier: Apache-2.0
//
// OutputFile: a file that appears under its name when it is complete, in the place of one that was there.
#ifndef DAMO_DUMP_OUTPUT_FILE_H_
#define DAMO_DUMP_OUTPUT_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "damo/base/status.h"
#include "damo/dump/write_behind.h"
#include "damo/storage/file.h"

namespace damo {

// Thread-compatible. Written beside its place, as "NAME.partial"; what is not finished is removed, except by
// a process that dies: then the next one writes over it.
class OutputFile {
 public:
  // Fails if the directory is absent or read-only, if something else than a file has the name, and while
  // another file of that name is being written, here or in another process.
  static StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Both as WriteBehind::Append().
  StatusOr<char*> Append(size_t num_bytes) { return appended_.Append(num_bytes); }
  Status Append(std::string_view bytes);
  // Writes over what was appended at `offset`.
  Status Overwrite(uint64_t offset, std::string_view bytes);

  // Gives the file its name. Afterwards it, and its name, survive loss of power.
  Status Finish();

 private:
  OutputFile(std::string path, std::string partial_path, File file);
  Status Write(std::string_view bytes);

  const std::string path_;
  const std::string partial_path_;
  File file_;
  bool finished_ = false;
  uint64_t written_ = 0;  // bytes given to the system
  uint64_t pushed_ = 0;   // of these, bytes that it was asked to begin writing to the disk
  WriteBehind appended_;  // goes first: its thread uses what is above
};

}  // namespace damo

#endif  // DAMO_DUMP_OUTPUT_FILE_H_
