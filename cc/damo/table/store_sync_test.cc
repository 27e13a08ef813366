// SPDX-License-Identifier: Apache-2.0
//
// Durability "sync": apply calls wait for the disk, not for each other.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/redo/test_log_file_system.h"
#include "damo/storage/memory_storage.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int kCallers = 8;

TEST(StoreSyncTest, CallsOfOneGroupAtTheSameTimeShareASync) {
  const TestDirectory directory;
  GatedLogFileSystem log_files;
  StoreOptions options;
  options.durability = Durability::kSync;
  auto opened = Store::Open(directory.path(), options, NewMemoryStorage(), Clock::System(), &log_files);
  ASSERT_OK(opened.status());
  const std::unique_ptr<Store> store = std::move(*opened);
  const auto added = store->AddGroup(TableConfig(1, 4, "adam", "random_normal"));
  ASSERT_OK(added.status());
  EmbeddingTable& table = **added;
  std::mt19937_64 random(1);
  const Batch batch = RandomBatch(random, 50, 100, table.dim());

  std::vector<std::thread> callers;
  callers.emplace_back([&] { Apply(table, batch); });
  log_files.WaitForFirstSync();
  for (int i = 0; i < kCallers; ++i) callers.emplace_back([&] { Apply(table, batch); });
  // All of them write their records while the disk is busy with the first; no run that passes waits so long.
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (table.step() < 1 + kCallers && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_EQ(table.step(), 1 + kCallers) << "a call waits for the sync of another one";
  log_files.OpenGate();
  for (std::thread& caller : callers) caller.join();

  EXPECT_EQ(log_files.syncs(), 2);
  ASSERT_OK(store->Close());
}

}  // namespace
}  // namespace damo
