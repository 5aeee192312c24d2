export default defineEventHandler(async (event) => {
  const { key, text } = await readBody<{ key: string; text: string }>(event);
  await saveNote(bindings(event), key, text);
  setResponseStatus(event, 201);
  setResponseHeader(event, 'location', `/api/notes/${key}`);
  return { saved: key };
});
