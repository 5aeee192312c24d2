export default defineEventHandler(async (event) => {
  const { results } = await bindings(event).DB.prepare('SELECT key, text FROM notes ORDER BY key').all();
  return results;
});
