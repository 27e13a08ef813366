// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_image.h"

#include <rocksdb/options.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "damo/base/crc32c.h"
#include "damo/storage/rocksdb_status.h"

namespace damo {
namespace {

constexpr uint64_t kCopyBytes = uint64_t{1} << 20;

// Adds up what is done of `num_total` bytes.
class ByteReporter {
 public:
  // `progress` is borrowed.
  ByteReporter(const ByteProgress& progress, uint64_t num_total)
      : progress_(progress), num_total_(num_total) {}

  Status Add(uint64_t num_bytes) {
    num_bytes_ += num_bytes;
    return progress_ ? progress_(num_bytes_, num_total_) : Status();
  }

 private:
  const ByteProgress& progress_;
  const uint64_t num_total_;
  uint64_t num_bytes_ = 0;
};

// A file of a copy, written from its beginning.
class CopiedFile {
 public:
  // `env` and `reporter` are borrowed.
  CopiedFile(rocksdb::Env* env, std::string path, ByteReporter* reporter)
      : env_(env), path_(std::move(path)), reporter_(reporter) {}

  Status Open() { return ToStatus(env_->NewWritableFile(path_, &file_, {}), "create file '", path_, "'"); }
  Status Append(std::string_view bytes) {
    crc32c_ = ExtendCrc32c(crc32c_, bytes);
    DAMO_RETURN_IF_ERROR(ToStatus(file_->Append(ToSlice(bytes)), "write file '", path_, "'"));
    return reporter_->Add(bytes.size());
  }
  Status Finish() {
    DAMO_RETURN_IF_ERROR(ToStatus(file_->Fsync(), "sync file '", path_, "'"));
    return ToStatus(file_->Close(), "close file '", path_, "'");
  }
  uint32_t crc32c() const { return crc32c_; }

 private:
  rocksdb::Env* const env_;
  const std::string path_;
  ByteReporter* const reporter_;
  std::unique_ptr<rocksdb::WritableFile> file_;
  uint32_t crc32c_ = 0;
};

// The first `num_bytes` of a file: the rest was written after the image's moment.
Status AppendFile(rocksdb::Env* env, const std::string& path, uint64_t num_bytes, CopiedFile& copy) {
  std::unique_ptr<rocksdb::SequentialFile> file;
  DAMO_RETURN_IF_ERROR(ToStatus(env->NewSequentialFile(path, &file, {}), "open file '", path, "'"));
  std::string buffer(std::min(num_bytes, kCopyBytes), '\0');
  for (uint64_t done = 0; done < num_bytes;) {
    rocksdb::Slice read;
    DAMO_RETURN_IF_ERROR(
        ToStatus(file->Read(std::min<uint64_t>(buffer.size(), num_bytes - done), &read, buffer.data()),
                 "read file '", path, "'"));
    if (read.empty()) {
      return DataLoss("file '", path, "' ends after ", done, " bytes, expected ", num_bytes);
    }
    DAMO_RETURN_IF_ERROR(copy.Append(ToView(read)));
    done += read.size();
  }
  return Status();
}

StatusOr<StorageFile> Copy(rocksdb::Env* env, const rocksdb::LiveFileStorageInfo& file,
                           const std::string& source, const std::string& target, ByteReporter& reporter) {
  CopiedFile copy(env, target, &reporter);
  DAMO_RETURN_IF_ERROR(copy.Open());
  if (file.replacement_contents.empty()) {
    DAMO_RETURN_IF_ERROR(AppendFile(env, source, file.size, copy));
  } else {
    DAMO_RETURN_IF_ERROR(copy.Append(file.replacement_contents));
  }
  DAMO_RETURN_IF_ERROR(copy.Finish());
  return StorageFile{file.relative_filename, file.size, copy.crc32c()};
}

// Table files never change, so that two directories may share one. Filesystems that have no links differ in
// how they refuse: a copy is tried whatever the reason was.
StatusOr<StorageFile> LinkOrCopy(rocksdb::Env* env, const rocksdb::LiveFileStorageInfo& file,
                                 const std::string& directory, ByteReporter& reporter) {
  const std::string source = file.directory + "/" + file.relative_filename;
  const std::string target = directory + "/" + file.relative_filename;
  if (file.file_type == rocksdb::kTableFile && env->LinkFile(source, target).ok()) {
    DAMO_RETURN_IF_ERROR(reporter.Add(file.size));
    return StorageFile{file.relative_filename, file.size, std::nullopt};
  }
  return Copy(env, file, source, target, reporter);
}

}  // namespace

StatusOr<std::unique_ptr<StorageImage>> RocksDbImage::Take(std::shared_ptr<RocksDbDatabase> database,
                                                           rocksdb::Env* env) {
  rocksdb::DB* const db = database->get();
  DAMO_RETURN_IF_ERROR(ToStatus(db->DisableFileDeletions(), "keep the files of the database"));
  std::unique_ptr<RocksDbImage> image(new RocksDbImage(std::move(database), env));
  rocksdb::LiveFilesStorageInfoOptions options;
  options.wal_size_for_flush = std::numeric_limits<uint64_t>::max();  // the caller has flushed
  DAMO_RETURN_IF_ERROR(
      ToStatus(db->GetLiveFilesStorageInfo(options, &image->files_), "list the files of the database"));
  return std::unique_ptr<StorageImage>(std::move(image));
}

RocksDbImage::~RocksDbImage() {
  // Fails for a database that is being closed only, which deletes what it does not need when it is opened.
  (*database_)->EnableFileDeletions(/*force=*/false).PermitUncheckedError();
}

StatusOr<std::vector<StorageFile>> RocksDbImage::WriteTo(const std::string& directory,
                                                         const ByteProgress& progress) const {
  uint64_t num_total = 0;
  for (const rocksdb::LiveFileStorageInfo& file : files_) num_total += file.size;
  ByteReporter reporter(progress, num_total);
  std::vector<StorageFile> written;
  written.reserve(files_.size());
  for (const rocksdb::LiveFileStorageInfo& file : files_) {
    DAMO_ASSIGN_OR_RETURN(StorageFile one, LinkOrCopy(env_, file, directory, reporter));
    written.push_back(std::move(one));
  }
  std::unique_ptr<rocksdb::Directory> synced;
  DAMO_RETURN_IF_ERROR(ToStatus(env_->NewDirectory(directory, &synced), "open directory '", directory, "'"));
  DAMO_RETURN_IF_ERROR(ToStatus(synced->Fsync(), "sync directory '", directory, "'"));
  return written;
}

}  // namespace damo
