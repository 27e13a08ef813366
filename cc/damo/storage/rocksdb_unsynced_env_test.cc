// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_unsynced_env.h"

#include <gtest/gtest.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/rocksdb_storage.h"

namespace damo {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

// Counts how often files and directories are synced.
class CountingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit CountingFileSystem(std::atomic<int>* num_syncs)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), num_syncs_(num_syncs) {}
  const char* Name() const override { return "damo.CountingFileSystem"; }

  IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file, IODebugContext* debug) override {
    IOStatus status = target()->NewWritableFile(path, options, file, debug);
    if (status.ok()) *file = std::make_unique<CountedFile>(std::move(*file), num_syncs_);
    return status;
  }
  IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                              std::unique_ptr<rocksdb::FSWritableFile>* file,
                              IODebugContext* debug) override {
    IOStatus status = target()->ReopenWritableFile(path, options, file, debug);
    if (status.ok()) *file = std::make_unique<CountedFile>(std::move(*file), num_syncs_);
    return status;
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& options,
                        std::unique_ptr<rocksdb::FSDirectory>* directory, IODebugContext* debug) override {
    IOStatus status = target()->NewDirectory(path, options, directory, debug);
    if (status.ok()) *directory = std::make_unique<CountedDirectory>(std::move(*directory), num_syncs_);
    return status;
  }

 private:
  class CountedFile final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    CountedFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::atomic<int>* num_syncs)
        : FSWritableFileOwnerWrapper(std::move(file)), num_syncs_(num_syncs) {}
    IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
      ++*num_syncs_;
      return target()->Sync(options, debug);
    }
    IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
      ++*num_syncs_;
      return target()->Fsync(options, debug);
    }

   private:
    std::atomic<int>* const num_syncs_;
  };
  class CountedDirectory final : public rocksdb::FSDirectoryWrapper {
   public:
    CountedDirectory(std::unique_ptr<rocksdb::FSDirectory> directory, std::atomic<int>* num_syncs)
        : FSDirectoryWrapper(std::move(directory)), num_syncs_(num_syncs) {}
    IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                                 const rocksdb::DirFsyncOptions& what) override {
      ++*num_syncs_;
      return FSDirectoryWrapper::FsyncWithDirOptions(options, debug, what);
    }

   private:
    std::atomic<int>* const num_syncs_;
  };

  std::atomic<int>* const num_syncs_;
};

// Commits a row and returns how often that, and opening, has synced something.
int SyncsOfACommit(bool unsynced) {
  const TestDirectory directory;
  std::atomic<int> num_syncs{0};
  const auto counting = rocksdb::NewCompositeEnv(std::make_shared<CountingFileSystem>(&num_syncs));
  const auto without = NewUnsyncedEnv(counting.get());
  RocksDbStorageOptions options;
  options.env_for_test = unsynced ? without.get() : counting.get();
  StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(directory / "store", options);
  EXPECT_TRUE(IsOk(storage.status()));
  StatusOr<std::unique_ptr<SortedBatch>> batch = (*storage)->NewSortedBatch();
  EXPECT_TRUE(IsOk(batch.status()));
  EXPECT_TRUE(IsOk((*batch)->PutRow(1, 2, "row")));
  EXPECT_TRUE(IsOk((*batch)->Commit()));
  const uint64_t key = 2;
  EXPECT_TRUE(IsOk((*storage)->MultiGet(1, {&key, 1}, [](size_t, std::optional<std::string_view> row) {
    EXPECT_EQ(row, "row");
    return Status();
  })));
  batch->reset();
  EXPECT_TRUE(IsOk((*storage)->Close()));
  return num_syncs;
}

TEST(UnsyncedEnvTest, ADatabaseOnItWaitsForNoDisk) {
  EXPECT_GT(SyncsOfACommit(/*unsynced=*/false), 3);
  EXPECT_EQ(SyncsOfACommit(/*unsynced=*/true), 0);
}

}  // namespace
}  // namespace damo
