import assert from "node:assert/strict";
import { test } from "node:test";
import { DatabaseManager } from "../src/lib/db/d1";
import { UsageRecorder } from "../src/lib/cost/monitor";
import { openDatabase, withoutSqlite } from "./parts";

const skip = withoutSqlite;

const user = (id: string) => ({ id, clerk_id: `local:${id}`, email: `${id}@example.com`, name: id });
const countUsers = async (db: DatabaseManager) => (await db.first<{ count: number }>("SELECT count(*) AS count FROM users"))?.count;

test("a transaction writes all that it collected, as one batch", { skip }, async () => {
  const { db, batches } = openDatabase();
  const manager = new DatabaseManager(db);
  const answer = await manager.transaction(async (transaction) => {
    transaction.run("INSERT INTO users (id, clerk_id, email) VALUES (?, ?, ?)", "a", "a", "a@example.com");
    transaction.run("INSERT INTO users (id, clerk_id, email) VALUES (?, ?, ?)", "b", "b", "b@example.com");
    assert.equal(await countUsers(manager), 0, "nothing is written before the function returns");
    return "done";
  });
  assert.equal(answer, "done");
  assert.deepEqual(batches, [2]);
  assert.equal(await countUsers(manager), 2);
});

test("a transaction whose function throws writes nothing", { skip }, async () => {
  const { db, batches } = openDatabase();
  const manager = new DatabaseManager(db);
  await assert.rejects(
    manager.transaction(async (transaction) => {
      transaction.run("INSERT INTO users (id, clerk_id, email) VALUES (?, ?, ?)", "a", "a", "a@example.com");
      throw new Error("changed my mind");
    }),
    /changed my mind/,
  );
  assert.deepEqual(batches, []);
  assert.equal(await countUsers(manager), 0);
});

test("a transaction with one bad statement is rolled back whole", { skip }, async () => {
  const manager = new DatabaseManager(openDatabase().db);
  await assert.rejects(
    manager.transaction(async (transaction) => {
      transaction.run("INSERT INTO users (id, clerk_id, email) VALUES (?, ?, ?)", "a", "a", "a@example.com");
      transaction.run("INSERT INTO users (id, clerk_id, email) VALUES (?, ?, ?)", "b", "b", "a@example.com");
    }),
    /UNIQUE constraint failed: users.email/,
  );
  assert.equal(await countUsers(manager), 0);
});

test("batchInsert goes in hundreds and keeps every value", { skip }, async () => {
  const { db, batches } = openDatabase();
  const usage = new UsageRecorder();
  const manager = new DatabaseManager(db, usage);
  await manager.batchInsert("users", Array.from({ length: 250 }, (_, index) => user(`u${index}`)));
  assert.deepEqual(batches, [100, 100, 50]);
  assert.equal(await countUsers(manager), 250);
  assert.equal((await manager.first<{ email: string }>("SELECT email FROM users WHERE id = ?", "u249"))?.email, "u249@example.com");
  assert.equal(new Map(usage.entries()).get("d1Queries"), 252);
});

test("batchInsert takes no name that is not an identifier", { skip }, async () => {
  const manager = new DatabaseManager(openDatabase().db);
  await assert.rejects(manager.batchInsert("users; DROP TABLE users", [user("a")]), /Not a table or column name/);
  await assert.rejects(manager.batchInsert("users", [{ 'id") VALUES (1); --': "x" }]), /Not a table or column name/);
  await manager.batchInsert("users", []);
});
