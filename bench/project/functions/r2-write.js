import { r2Write } from "../lib.js";

export const onRequest = ({ env }) => r2Write(env);
