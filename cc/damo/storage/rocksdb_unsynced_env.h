// SPDX-License-Identifier: Apache-2.0
//
// UnsyncedEnv: the machine's files without the wait for the disk, for a database that nobody opens again.
#ifndef DAMO_STORAGE_ROCKSDB_UNSYNCED_ENV_H_
#define DAMO_STORAGE_ROCKSDB_UNSYNCED_ENV_H_

#include <rocksdb/env.h>

#include <memory>

namespace damo {

// `env`, which outlives it, but that files and directories are synced when the system pleases: after loss of
// power they may be anything. Thread-safe.
std::unique_ptr<rocksdb::Env> NewUnsyncedEnv(rocksdb::Env* env);

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_UNSYNCED_ENV_H_
