import { setUp } from "../lib.js";

export const onRequest = ({ env }) => setUp(env);
