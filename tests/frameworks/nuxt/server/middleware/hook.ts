export default defineEventHandler((event) => {
  setResponseHeader(event, 'x-hook', 'nuxt');
});
