// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store_registry.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "damo/storage/rocksdb_storage.h"

namespace damo {
namespace {

StatusOr<std::string> CanonicalPath(const std::string& directory) {
  if (directory.empty()) return InvalidArgument("`directory` must be a path. Received: directory=''");
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(directory, error);
  if (!error) {
    std::string path = std::filesystem::weakly_canonical(absolute, error).string();
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    if (!error) return path;
  }
  return IoError("open store '", directory, "': ", error.message());
}

template <typename T>
std::string Shown(const std::optional<T>& value) {
  std::ostringstream text;
  if (value) {
    text << std::boolalpha << *value;
  } else {
    text << "none";
  }
  return text.str();
}

std::optional<DirectoryIdentity> IdentityOf(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return DirectoryIdentity(status.st_dev, status.st_ino);
}

template <typename T>
Status CheckOption(const char* name, const std::optional<T>& has, const std::optional<T>& asked) {
  if (!asked || asked == has) return Status();
  return InvalidArgument("it is already open in this process with ", name, "=", Shown(has), ", asked for ",
                         name, "=", Shown(asked), "; use the open store, or close it first");
}

std::optional<std::string> Name(const std::optional<Durability>& durability) {
  if (!durability) return std::nullopt;
  return std::string(DurabilityName(*durability));
}

std::optional<std::string> Name(const std::optional<ClockKind>& clock) {
  if (!clock) return std::nullopt;
  return std::string(ClockName(*clock));
}

Status CheckShareable(const StoreOptions& has, const StoreOptions& asked) {
  DAMO_RETURN_IF_ERROR(CheckOption("ttl_seconds", has.ttl_seconds, asked.ttl_seconds));
  DAMO_RETURN_IF_ERROR(CheckOption("memory_budget", has.memory_budget, asked.memory_budget));
  DAMO_RETURN_IF_ERROR(CheckOption("durability", Name(has.durability), Name(asked.durability)));
  DAMO_RETURN_IF_ERROR(CheckOption("read_only", has.read_only, asked.read_only));
  DAMO_RETURN_IF_ERROR(CheckOption("clock", Name(has.clock), Name(asked.clock)));
  DAMO_RETURN_IF_ERROR(CheckOption("row_cache", has.row_cache, asked.row_cache));
  return CheckOption("seed", has.seed, asked.seed);
}

// Of a store with row cache nothing goes through memtables but the settings of groups.
constexpr int64_t kManifestMemtableBytes = int64_t{256} << 10;

StatusOr<std::unique_ptr<Store>> OpenStoreOnce(const std::string& path, const StoreOptions& options) {
  RocksDbStorageOptions storage_options;
  const int64_t memory_budget = options.memory_budget.value_or(StoreOptions::kDefaultMemoryBudget);
  const bool read_only = options.read_only.value_or(false);
  if (options.row_cache.value_or(true) || read_only) {
    // Rows come in sorted batches, which are durable in themselves. What else is written, the settings of
    // groups, is little, and nothing may be found that it does not tell of.
    const MemoryPlan plan = PlanMemory(memory_budget);
    storage_options.memory_budget = plan.storage_bytes - (read_only ? plan.overlay_bytes : 0);
    storage_options.memtable_bytes = kManifestMemtableBytes;
    storage_options.cache_row_blocks = false;
    storage_options.durability = Durability::kSync;
  } else {
    storage_options.memory_budget = memory_budget;
    storage_options.durability = options.durability.value_or(Durability::kWal);
  }
  storage_options.read_only = read_only;
  storage_options.create_if_missing = options.create_if_missing;
  DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path, storage_options));
  return Store::Open(path, options, std::move(storage), Clock::System());
}

// Beside a writer the log may be trimmed after this open has read how far the rows are, and before it has
// read the log. An open that fails so is tried again, from the newer state; a log that is really damaged
// fails each.
StatusOr<std::unique_ptr<Store>> OpenStore(const std::string& path, const StoreOptions& options) {
  const int num_attempts = options.read_only.value_or(false) ? 10 : 1;
  for (int attempt = 1;; ++attempt) {
    StatusOr<std::unique_ptr<Store>> store = OpenStoreOnce(path, options);
    const StatusCode code = store.status().code();
    const bool log_moved_on = code == StatusCode::kIoError || code == StatusCode::kDataLoss;
    if (!log_moved_on || attempt == num_attempts) return store;
  }
}

// A store whose directory was removed would go on taking writes that no opening finds again.
Status CheckStillThere(const std::string& path, const std::optional<DirectoryIdentity>& opened) {
  if (IdentityOf(path) == opened) return Status();
  return FailedPrecondition(
      "its directory was removed or replaced while it was open; close the open store first");
}

// RocksDB's static objects wait for their threads when they are destroyed. A child forked from process
// `owner` has no such threads and would wait for ever, so it ends here, before they are destroyed.
void EndForkedChild(int exit_status, void* owner) {
  if (getpid() == static_cast<pid_t>(reinterpret_cast<intptr_t>(owner))) return;
  std::fflush(nullptr);
  _exit(exit_status);
}

}  // namespace

StoreRegistry& StoreRegistry::Global() {
  static StoreRegistry* const registry = new StoreRegistry;  // leaked: stores may retire until the very end
  return *registry;
}

Status StoreRegistry::CheckProcess(const std::string& path) const {
  const pid_t owner = pid_.load();
  if (owner == 0 || owner == getpid()) return Status();
  return FailedPrecondition("open store '", path, "': process ", getpid(), " was forked from process ", owner,
                            " after that had opened stores; open it in a process started afresh ",
                            "(multiprocessing start method 'spawn')");
}

void StoreRegistry::FindLocked(const std::string& path, std::unique_lock<std::mutex>& lock,
                               std::shared_ptr<Store>* store) {
  entry_gone_.wait(lock, [&] {
    const auto it = entries_.find(path);
    if (it == entries_.end()) return true;
    *store = it->second.pointer.lock();
    return *store != nullptr;  // null: its last owner is about to Retire() it
  });
}

StatusOr<std::shared_ptr<Store>> StoreRegistry::Open(const std::string& directory,
                                                     const StoreOptions& options) {
  DAMO_RETURN_IF_ERROR(options.Validate());
  DAMO_ASSIGN_OR_RETURN(const std::string path, CanonicalPath(directory));
  DAMO_RETURN_IF_ERROR(CheckProcess(path));  // before the lock: in a forked child it may be held for ever
  std::shared_ptr<Store> standing;
  // I/O under the lock on purpose: two callers that open one directory must not race for its RocksDB lock.
  std::unique_lock<std::mutex> lock(mutex_);
  FindLocked(path, lock, &standing);
  if (standing != nullptr && !standing->closed()) {
    const std::string context = StrCat("open store '", path, "'");
    DAMO_RETURN_IF_ERROR(CheckStillThere(path, entries_[path].identity).WithContext(context));
    DAMO_RETURN_IF_ERROR(CheckShareable(standing->options(), options).WithContext(context));
    return standing;
  }
  pid_ = getpid();
  StatusOr<std::unique_ptr<Store>> opened = OpenStore(path, options);
  // Only now that RocksDB's static objects exist: what is registered last is run first.
  static const int registered = on_exit(EndForkedChild, reinterpret_cast<void*>(intptr_t{getpid()}));
  (void)registered;
  if (!opened.ok()) return opened.status();
  std::shared_ptr<Store> store(opened->release(), [this](Store* last) { Retire(last); });
  entries_[path] = Entry{store.get(), store, IdentityOf(path)};
  return store;
}

StatusOr<std::shared_ptr<Store>> StoreRegistry::Find(const std::string& directory) {
  DAMO_ASSIGN_OR_RETURN(const std::string path, CanonicalPath(directory));
  DAMO_RETURN_IF_ERROR(CheckProcess(path));
  std::shared_ptr<Store> store;
  std::unique_lock<std::mutex> lock(mutex_);
  FindLocked(path, lock, &store);
  if (store == nullptr || store->closed()) return NotFound("store '", path, "' is not open in this process");
  return store;
}

void StoreRegistry::Retire(Store* store) {
  if (pid_ != getpid()) return;  // leaked on purpose, as its storage would be: see StoreSession's destructor
  // Closing under the lock on purpose: whoever opens the directory next must find RocksDB's lock released.
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = entries_.find(store->directory());
  if (it != entries_.end() && it->second.store == store) entries_.erase(it);
  store->Close().IgnoreError();  // nobody is left to tell; tables may outlive the store, its storage may not
  delete store;
  entry_gone_.notify_all();
}

Status StoreRegistry::CloseAll() {
  if (pid_ != getpid()) return Status();
  std::vector<std::shared_ptr<Store>> stores;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& entry : entries_) {
      if (std::shared_ptr<Store> store = entry.second.pointer.lock()) stores.push_back(std::move(store));
    }
  }
  Status first;
  for (const auto& store : stores) {
    const Status status = store->Close();
    if (first.ok()) first = status;
  }
  return first;
}

}  // namespace damo
