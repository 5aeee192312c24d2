export const onRequest = (context) => { context.passThroughOnException(); throw new Error('on purpose'); };
