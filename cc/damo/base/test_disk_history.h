// SPDX-License-Identifier: Apache-2.0
//
// DiskHistory: what lies below a directory, change by change, and what of it is left by the death of the
// process or by a loss of power at each of them.
#ifndef DAMO_BASE_TEST_DISK_HISTORY_H_
#define DAMO_BASE_TEST_DISK_HISTORY_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ios>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace damo {

// Thread-safe: changes are made one at a time. Whoever makes them wraps each in Change() and says in it what
// was done; syncs are said, not made. Files are created, appended to, cut, linked, renamed and removed, never
// written over. What is there at the beginning, and what comes to be in other ways, counts as synced.
class DiskHistory {
 public:
  // A file, whatever its names.
  struct File {
    std::string link;                // a name outside the history's directory, which stays
    uint64_t synced_bytes = 0;       // of what it has, from its beginning
    std::vector<std::string> uncut;  // what it was before each cut since it was synced
  };
  using FilePointer = std::shared_ptr<File>;
  using Observer = std::function<void(const std::string& change)>;

  // Of the directory `root`. `links` is another one, empty, on the same filesystem.
  DiskHistory(const std::string& root, std::string links) : root_(Normal(root)), links_(std::move(links)) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_)) {
      if (!entry.is_regular_file()) continue;
      Synced(*Created(entry.path()));
      DirectorySynced(entry.path().parent_path());
    }
  }

  // Is called before each change, while no other is made, and may call CopyTo() and CopyAfterPowerLoss().
  void set_observer(Observer observer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    observer_ = std::move(observer);
  }

  template <typename Act>
  auto Change(const std::string& name, const std::string& path, const Act& act) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (observer_) observer_(name + " " + path);
    return act();
  }

  // Does what changes nothing on the disk.
  template <typename Act>
  auto Undisturbed(const Act& act) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return act();
  }

  // ---- what a change did; to be called in Change() ----

  FilePointer Created(const std::string& path) {
    auto file = std::make_shared<File>();
    file->link = links_ + "/" + std::to_string(num_files_++);
    std::filesystem::create_hard_link(path, file->link);
    Name(path, {{NameOf(path), file}});
    return file;
  }
  // Null where the file came to be in another way.
  FilePointer Find(const std::string& path) const {
    const auto directory = directories_.find(ParentOf(path));
    if (directory == directories_.end()) return nullptr;
    const Names names = directory->second.Now();
    const auto name = names.find(NameOf(path));
    return name == names.end() ? nullptr : name->second;
  }
  void Linked(const std::string& from, const std::string& to) { Name(to, {{NameOf(to), Find(from)}}); }
  void Renamed(const std::string& from, const std::string& to) {
    const FilePointer file = Find(from);
    ASSERT_EQ(ParentOf(from), ParentOf(to)) << "not made for this";
    Name(to, {{NameOf(from), nullptr}, {NameOf(to), file}});
  }
  void Removed(const std::string& path) { Name(path, {{NameOf(path), nullptr}}); }
  void DirectorySynced(const std::string& path) {
    Directory& directory = directories_[Normal(path)];
    directory.synced = directory.Now();
    directory.unsynced.clear();
    ++num_syncs_;
  }

  void Synced(File& file) {
    file.synced_bytes = std::filesystem::file_size(file.link);
    file.uncut.clear();
    ++num_syncs_;
  }
  // What is not synced reads as zeros from now on.
  static void DropPages(const File& file) {
    const uint64_t size = std::filesystem::file_size(file.link);
    std::filesystem::resize_file(file.link, file.synced_bytes);
    std::filesystem::resize_file(file.link, size);
  }
  static void AboutToCut(File& file, uint64_t bytes) {
    file.uncut.push_back(Read(file.link));
    file.synced_bytes = std::min(file.synced_bytes, bytes);
  }

  // ---- for observers ----

  // Between two equal ones what a loss of power is certain to leave has not grown.
  int num_syncs() const { return num_syncs_; }

  // Puts what is there now into `directory`, which is made: what the death of the process leaves.
  void CopyTo(const std::string& directory) const {
    CopyFiles(directory, [this](const std::filesystem::path& from, const std::filesystem::path& to) {
      const FilePointer file = Find(from);
      const bool is_whole = file == nullptr || file->synced_bytes == std::filesystem::file_size(from);
      if (from.extension() == ".sst" && is_whole) {
        std::filesystem::create_hard_link(from, to);  // a table never changes again
      } else {
        std::filesystem::copy_file(from, to);
      }
    });
  }

  // Puts what a loss of power might leave into `directory`. Without `random` it is all that was synced, and
  // nothing else. With it the pages of what was not have reached the disk in any order or not at all, and of
  // the names in a directory some of the last changes are lost.
  void CopyAfterPowerLoss(const std::string& directory, std::mt19937* random) const {
    namespace fs = std::filesystem;
    CopyFiles(directory, [this](const fs::path& from, const fs::path& to) {
      if (!WasEverNamed(from)) fs::copy_file(from, to);
    });
    for (const auto& [path, names] : directories_) {
      const size_t num_kept = random == nullptr ? 0 : (*random)() % (names.unsynced.size() + 1);
      for (const auto& [name, file] : names.After(num_kept)) {
        const fs::path copy = CopyOf(fs::path(path) / name, directory);
        if (!fs::exists(copy.parent_path())) continue;  // the directory has been renamed or removed
        if (copy.extension() == ".sst" && file->synced_bytes == fs::file_size(file->link)) {
          fs::create_hard_link(file->link, copy);
        } else {
          std::ofstream(copy, std::ios::binary) << AfterPowerLoss(*file, random);
        }
      }
    }
  }

 private:
  using Names = std::map<std::string, FilePointer>;
  using NameChange = std::vector<std::pair<std::string, FilePointer>>;  // null: removed
  struct Directory {
    Names synced;
    std::vector<NameChange> unsynced;
    std::set<std::string> ever;

    Names Now() const { return After(unsynced.size()); }
    Names After(size_t num_changes) const {
      Names names = synced;
      for (size_t i = 0; i < num_changes; ++i) {
        for (const auto& [name, file] : unsynced[i]) {
          if (file == nullptr) {
            names.erase(name);
          } else {
            names[name] = file;
          }
        }
      }
      return names;
    }
  };

  static std::string Normal(const std::string& path) {
    const std::string normal = std::filesystem::path(path).lexically_normal();
    return normal.size() > 1 && normal.back() == '/' ? normal.substr(0, normal.size() - 1) : normal;
  }
  static std::string ParentOf(const std::string& path) {
    return std::filesystem::path(Normal(path)).parent_path();
  }
  static std::string NameOf(const std::string& path) { return std::filesystem::path(path).filename(); }
  static std::string Read(const std::string& path) {
    std::string bytes(std::filesystem::file_size(path), '\0');
    std::ifstream(path, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return bytes;
  }

  // Makes the directories below root_ in `directory`, and calls `copy` for each file with its place there.
  template <typename Copy>
  void CopyFiles(const std::string& directory, const Copy& copy) const {
    namespace fs = std::filesystem;
    for (bool done = false; !done;) {
      fs::remove_all(directory);
      fs::create_directories(directory);
      try {
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root_)) {
          const fs::path to = CopyOf(entry.path(), directory);
          if (entry.is_directory()) fs::create_directories(to);
          const bool is_diary =
              entry.path().filename().string().rfind("LOG", 0) == 0;  // RocksDB's, never read
          if (entry.is_regular_file() && !is_diary) copy(entry.path(), to);
        }
        done = true;
      } catch (const fs::filesystem_error&) {  // something else than a Change() has removed or renamed a file
      }
    }
  }

  std::string CopyOf(const std::filesystem::path& path, const std::string& directory) const {
    return std::filesystem::path(directory) / path.lexically_relative(root_);
  }
  // Files that get or, where null, lose their names in the directory of `path` at once.
  void Name(const std::string& path, const NameChange& change) {
    Directory& directory = directories_[ParentOf(path)];
    directory.unsynced.push_back(change);
    for (const auto& [name, file] : change) directory.ever.insert(name);
  }
  bool WasEverNamed(const std::string& path) const {
    const auto directory = directories_.find(ParentOf(path));
    return directory != directories_.end() && directory->second.ever.count(NameOf(path)) > 0;
  }

  static std::string AfterPowerLoss(const File& file, std::mt19937* random) {
    constexpr size_t kPageBytes = 512;
    std::vector<std::string> versions = file.uncut;
    versions.push_back(Read(file.link));
    if (random == nullptr) return versions.back().substr(0, file.synced_bytes);
    const auto any = [&]() -> const std::string& { return versions[(*random)() % versions.size()]; };
    const size_t most = any().size();
    std::string left = versions.back().substr(0, file.synced_bytes);
    left.resize(left.size() + (*random)() % (most - std::min(most, left.size()) + 1));
    for (size_t begin = file.synced_bytes; begin < left.size(); begin += kPageBytes) {
      const std::string& source = any();
      if ((*random)() % 3 == 0) continue;
      const size_t end = std::min({left.size(), source.size(), begin + kPageBytes});
      for (size_t i = begin; i < end; ++i) left[i] = source[i];
    }
    return left;
  }

  const std::string root_;
  const std::string links_;
  std::mutex mutex_;  // guards what follows
  Observer observer_;
  int num_files_ = 0;
  int num_syncs_ = 0;
  std::map<std::string, Directory> directories_;
};

}  // namespace damo

#endif  // DAMO_BASE_TEST_DISK_HISTORY_H_
