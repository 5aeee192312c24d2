import { component$ } from '@builder.io/qwik';

export default component$(() => <h1>Nothing here</h1>);
