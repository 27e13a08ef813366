// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store_registry.h"

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
Status CheckOption(const char* name, const std::optional<T>& has, const std::optional<T>& asked) {
  if (!asked || asked == has) return Status();
  std::ostringstream has_text;
  if (has) {
    has_text << *has;
  } else {
    has_text << "none";
  }
  return InvalidArgument("it is already open in this process with ", name, "=", has_text.str(),
                         ", asked for ", name, "=", *asked, "; use the open store, or close it first");
}

std::optional<std::string> Name(const std::optional<Durability>& durability) {
  if (!durability) return std::nullopt;
  return std::string(DurabilityName(*durability));
}

Status CheckShareable(const StoreOptions& has, const StoreOptions& asked) {
  DAMO_RETURN_IF_ERROR(CheckOption("ttl_seconds", has.ttl_seconds, asked.ttl_seconds));
  DAMO_RETURN_IF_ERROR(CheckOption("memory_budget", has.memory_budget, asked.memory_budget));
  DAMO_RETURN_IF_ERROR(CheckOption("durability", Name(has.durability), Name(asked.durability)));
  DAMO_RETURN_IF_ERROR(CheckOption("read_only", has.read_only, asked.read_only));
  return CheckOption("seed", has.seed, asked.seed);
}

StatusOr<std::unique_ptr<Store>> OpenStore(const std::string& path, const StoreOptions& options) {
  RocksDbStorageOptions storage_options;
  storage_options.memory_budget = options.memory_budget.value_or(StoreOptions::kDefaultMemoryBudget);
  storage_options.durability = options.durability.value_or(Durability::kWal);
  storage_options.read_only = options.read_only.value_or(false);
  DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path, storage_options));
  return Store::Open(path, options, std::move(storage), Clock::System());
}

Status InheritedThroughFork(const std::string& path) {
  return FailedPrecondition("open store '", path,
                            "': it was open in the process this one was forked from; open ",
                            "it in a process started afresh (multiprocessing start method 'spawn')");
}

}  // namespace

StoreRegistry& StoreRegistry::Global() {
  static StoreRegistry* const registry = new StoreRegistry;  // leaked: stores may retire until the very end
  return *registry;
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
  std::shared_ptr<Store> standing;
  // I/O under the lock on purpose: two callers that open one directory must not race for its RocksDB lock.
  std::unique_lock<std::mutex> lock(mutex_);
  FindLocked(path, lock, &standing);
  if (standing != nullptr && !standing->owned_by_this_process()) return InheritedThroughFork(path);
  if (standing != nullptr && !standing->closed()) {
    DAMO_RETURN_IF_ERROR(
        CheckShareable(standing->options(), options).WithContext(StrCat("open store '", path, "'")));
    return standing;
  }
  DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Store> opened, OpenStore(path, options));
  std::shared_ptr<Store> store(opened.release(), [this](Store* last) { Retire(last); });
  entries_[path] = Entry{store.get(), store};
  return store;
}

StatusOr<std::shared_ptr<Store>> StoreRegistry::Find(const std::string& directory) {
  DAMO_ASSIGN_OR_RETURN(const std::string path, CanonicalPath(directory));
  std::shared_ptr<Store> store;
  std::unique_lock<std::mutex> lock(mutex_);
  FindLocked(path, lock, &store);
  if (store != nullptr && !store->owned_by_this_process()) return InheritedThroughFork(path);
  if (store == nullptr || store->closed()) return NotFound("store '", path, "' is not open in this process");
  return store;
}

void StoreRegistry::Retire(Store* store) {
  // Closing under the lock on purpose: whoever opens the directory next must find RocksDB's lock released.
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = entries_.find(store->directory());
  if (it != entries_.end() && it->second.store == store) entries_.erase(it);
  store->Close().IgnoreError();  // nobody is left to tell; tables may outlive the store, its storage may not
  delete store;
  entry_gone_.notify_all();
}

Status StoreRegistry::CloseAll() {
  std::vector<std::shared_ptr<Store>> stores;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& entry : entries_) {
      if (std::shared_ptr<Store> store = entry.second.pointer.lock()) stores.push_back(std::move(store));
    }
  }
  Status first;
  for (const auto& store : stores) {
    if (!store->owned_by_this_process()) continue;
    const Status status = store->Close();
    if (first.ok()) first = status;
  }
  return first;
}

}  // namespace damo
