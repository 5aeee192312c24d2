import { d1Insert } from "../lib.js";

export const onRequest = ({ env }) => d1Insert(env);
